"""LoRA adapters: merged as upstream merges them, every weight accounted for."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from chronos_export.checkpoint.loading import load_checkpoint, load_reference
from chronos_export.checkpoint.quiet import quiet
from chronos_export.errors import IntegrityError, UsageError
from tests.helpers.checkpoints import forecast, make_adapter, make_checkpoint, make_model, refusal


def test_adapter_is_merged_as_upstream_merges_it(adapter: Path, toy: Path) -> None:
    checkpoint = load_checkpoint(str(adapter))
    with quiet():
        upstream = Chronos2Pipeline.from_pretrained(adapter)
    upstream.model = copy.deepcopy(upstream.model)  # into memory of its own: alignment changes the rounding
    assert type(checkpoint.pipeline.model) is type(upstream.model)
    assert torch.equal(forecast(checkpoint.pipeline), forecast(upstream))
    assert torch.equal(forecast(load_reference(checkpoint)), forecast(upstream))
    assert not torch.allclose(forecast(upstream), forecast(load_checkpoint(str(toy)).pipeline), atol=1e-2)


def test_adapter_beside_its_base(tmp_path: Path) -> None:
    """A base folder named relative to the adapter is found from any working directory."""
    base = make_checkpoint(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base)
    digest = load_checkpoint(str(adapter)).digest
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text().replace(str(base), "../base"))
    assert load_checkpoint(str(adapter)).digest == digest


def test_adapter_weights_are_accounted_for(tmp_path: Path, toy: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", toy)
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    first = sorted(tensors)[0]
    for how, spoiled in {
        "missing": {n: t for n, t in tensors.items() if n != first},
        "unknown": {**tensors, "base_model.model.nonsense": torch.zeros(1)},
        "not finite": {**tensors, first: torch.full_like(tensors[first], torch.nan)},
    }.items():
        save_file(spoiled, file, metadata={"format": "pt"})
        error = refusal(adapter)
        assert isinstance(error, IntegrityError), how
        assert ("nonsense" if how == "unknown" else first) in error.summary


def test_modules_by_pattern(toy: Path, tmp_path: Path) -> None:
    """What a pattern names is what the adapter has weights for; upstream matches it and finds the same."""
    adapter = make_adapter(tmp_path / "adapter", toy)
    digest = load_checkpoint(str(adapter)).digest
    file = adapter / "adapter_config.json"
    pattern = r".*self_attention\.[qkvo]|output_patch_embedding\.output_layer"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target_modules": pattern}))
    assert load_checkpoint(str(adapter)).digest == digest
    with quiet():
        upstream = Chronos2Pipeline.from_pretrained(adapter)
    upstream.model = copy.deepcopy(upstream.model)
    assert torch.equal(forecast(load_checkpoint(str(adapter)).pipeline), forecast(upstream))


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"bias": "all", "modules_to_save": ["final_layer_norm"]},
        {"rank_pattern": {"self_attention.q": 3}, "alpha_pattern": {"layer.0.self_attention.v": 9}},
        {"layers_to_transform": [1], "layers_pattern": "block"},
        {"target_modules": ["shared", "self_attention.q"], "init_lora_weights": "gaussian"},
    ],
)
def test_every_kind_of_lora(toy: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    adapter = make_adapter(tmp_path / "adapter", toy, **options)
    with quiet():
        upstream = Chronos2Pipeline.from_pretrained(adapter)
    mine = load_checkpoint(str(adapter)).pipeline.model.state_dict()
    theirs = upstream.model.state_dict()
    assert mine.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.equal(mine[name], weight), name
    assert any(not torch.equal(mine[name], weight) for name, weight in make_model().state_dict().items())


@pytest.mark.parametrize("option", ["eva_config", "use_qalora", "trainable_token_indices", "from_the_future"])
def test_an_option_that_we_do_not_know(toy: Path, tmp_path: Path, option: str) -> None:
    adapter = make_adapter(tmp_path / "adapter", toy)
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {option: {"a": 1}}))
    error = refusal(adapter)
    assert isinstance(error, IntegrityError)
    assert option in error.summary


def test_an_adapter_of_another_kind_is_refused(mine: Path) -> None:
    (mine / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    assert "IA3" in refusal(mine).summary


def test_an_adapter_with_a_bias_that_has_no_place(tmp_path: Path, toy: Path) -> None:
    """peft trains it, and cannot merge it; fetching it again would not help."""
    for target, mergeable in (("self_attention.q", False), ("output_patch_embedding.output_layer", True)):
        folder = tmp_path / target
        lora = LoraConfig(r=2, lora_alpha=4, target_modules=[target], lora_bias=True)
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            get_peft_model(Chronos2Model.from_pretrained(toy), lora).save_pretrained(folder)
        if mergeable:
            load_checkpoint(str(folder))
            continue
        error = refusal(folder)
        assert isinstance(error, UsageError)
        assert "cannot be merged: it trained a bias (lora_bias) for" in error.summary
        assert error.fix == "train it again with LoraConfig(lora_bias=False)"
