"""LoRA adapters: merged as upstream merges them, every weight accounted for."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from chronos_export.checkpoint.loading import load_checkpoint, load_reference
from chronos_export.checkpoint.quiet import quiet
from chronos_export.errors import IntegrityError, UsageError
from tests.helpers.checkpoints import forecast, make_adapter, make_checkpoint, refusal


def test_adapter_is_merged_as_upstream_merges_it(adapter: Path, toy: Path) -> None:
    checkpoint = load_checkpoint(str(adapter))
    with quiet():
        upstream = Chronos2Pipeline.from_pretrained(adapter)
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
