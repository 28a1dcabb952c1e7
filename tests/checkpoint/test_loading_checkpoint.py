"""Loading: what is asked for is what is read, as upstream reads it, and its digest is the model's own."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2.config import Chronos2CoreConfig
from safetensors.torch import load_file, save_file

from chronos_export.checkpoint.config import CheckpointConfig
from chronos_export.checkpoint.loading import CONFIG_KEYS, load_checkpoint, load_reference
from chronos_export.checkpoint.quiet import quiet
from chronos_export.checkpoint.source import DEMO
from chronos_export.errors import IntegrityError
from tests.helpers.checkpoints import edit_config, edit_weights, forecast, make_checkpoint, make_model


@pytest.mark.parametrize("size", ["toy", "small", "quantiles13"])
def test_loads_what_was_saved(size: str, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(make_checkpoint(tmp_path, size)))
    saved = make_model(size)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(checkpoint.pipeline.model.state_dict()[name], tensor), name
    assert not checkpoint.pipeline.model.training
    assert checkpoint.config["d_model"] == saved.config.d_model
    assert checkpoint.config["chronos_config"]["quantiles"] == saved.config.chronos_config["quantiles"]
    assert json.loads(json.dumps(checkpoint.config)) == checkpoint.config
    assert (checkpoint.revision, checkpoint.licence) == (None, "unknown")


@pytest.mark.parametrize("size", ["toy", "quantiles13", "demo"])
def test_it_is_the_model_that_upstream_loads(size: str, checkpoint_of: Callable[[str], str]) -> None:
    """Without upstream reading the folder: the same weights, buffers, constants and forecasts, to the bit."""
    mine = load_checkpoint(checkpoint_of(size)).pipeline.model
    with quiet():
        theirs = Chronos2Pipeline.from_pretrained(DEMO if size == "demo" else checkpoint_of(size)).model
    for kind in ("named_parameters", "named_buffers"):
        found, wanted = dict(getattr(mine, kind)()), dict(getattr(theirs, kind)())
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert torch.equal(found[name], tensor), name
    assert mine.chronos_config == theirs.chronos_config
    assert all(getattr(mine.config, key) == getattr(theirs.config, key) for key in CONFIG_KEYS)
    assert mine.config._attn_implementation == theirs.config._attn_implementation
    theirs = copy.deepcopy(theirs)  # into memory of its own: alignment changes the rounding
    assert torch.equal(forecast(Chronos2Pipeline(mine)), forecast(Chronos2Pipeline(theirs)))


def test_defaults_are_upstreams() -> None:
    upstream = Chronos2CoreConfig()
    for field in fields(CheckpointConfig):
        if field.name != "chronos_config":
            assert field.default == getattr(upstream, field.name), field.name


def test_half_precision_weights_are_loaded_as_float32(mine: Path) -> None:
    half = {name: tensor.bfloat16() for name, tensor in load_file(mine / "model.safetensors").items()}
    edit_config(edit_weights(mine, half), dtype="bfloat16")
    model = load_checkpoint(str(mine)).pipeline.model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.shared.weight, half["shared.weight"].float())


def test_reference_shares_nothing(toy: Path) -> None:
    checkpoint = load_checkpoint(str(toy))
    before = forecast(checkpoint.pipeline)
    reference = load_reference(checkpoint)
    with torch.no_grad():
        for parameter in checkpoint.pipeline.model.parameters():
            parameter.zero_()
    assert torch.equal(forecast(reference), before)


def test_reference_notices_a_change(mine: Path) -> None:
    checkpoint = load_checkpoint(str(mine))
    edit_weights(mine, {"shared.weight": torch.zeros(2, 6)})
    with pytest.raises(IntegrityError, match="has changed"):
        load_reference(checkpoint)


def test_digest_is_of_the_model_not_of_its_files(mine: Path, tmp_path: Path) -> None:
    digest = load_checkpoint(str(mine)).digest
    tensors = load_file(mine / "model.safetensors")
    names = sorted(tensors, reverse=True)
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    for shard, chosen in {"a.safetensors": names[::2], "b.safetensors": names[1::2]}.items():
        save_file({name: tensors[name] for name in chosen}, sharded / shard, metadata={"format": "pt"})
    weight_map = {name: f"{'ab'[i % 2]}.safetensors" for i, name in enumerate(names)}
    (sharded / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    config = json.loads((mine / "config.json").read_text()) | {"transformers_version": "9.9"}
    (sharded / "config.json").write_text(json.dumps(dict(reversed(config.items()))))
    assert load_checkpoint(str(sharded)).digest == digest


def test_digest_changes_with_any_weight_or_constant(mine: Path) -> None:
    digests = {load_checkpoint(str(mine)).digest}
    tensors = load_file(mine / "model.safetensors")
    for name, tensor in tensors.items():
        changed = tensor.clone()
        changed.view(-1)[-1] += 1e-3
        digests.add(load_checkpoint(str(edit_weights(mine, {name: changed}))).digest)
        edit_weights(mine, {name: tensor})
    digests.add(load_checkpoint(str(edit_config(mine, rope_theta=500.0))).digest)
    assert len(digests) == len(tensors) + 2
