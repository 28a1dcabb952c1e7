"""Weight files: safetensors only, every weight accounted for, and nothing else is opened."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.errors import IntegrityError, UsageError
from tests.helpers.checkpoints import edit_weights, refusal


class Bomb:
    """Whoever unpickles this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickle_is_refused_and_never_opened(mine: Path, tmp_path: Path, name: str) -> None:
    (mine / "model.safetensors").unlink()
    (mine / name).write_bytes(pickle.dumps(Bomb(tmp_path / "opened")))
    error = refusal(mine)
    assert isinstance(error, UsageError)
    assert name in error.summary
    assert "safetensors" in error.allowed
    assert not (tmp_path / "opened").exists()


def test_pickle_beside_safetensors_is_left_alone(mine: Path, tmp_path: Path) -> None:
    (mine / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "opened")))
    load_checkpoint(str(mine))
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"encoder.block.1.layer.1.self_attention.o.weight": None}, "layer.1.self_attention.o.weight"),
        ({"encoder.block.7.layer.0.self_attention.q.weight": torch.zeros(16, 6)}, "block.7"),
        ({"shared.weight": torch.zeros(2, 7)}, "shared.weight"),
        ({"encoder.final_layer_norm.weight": torch.full((6,), torch.nan)}, "final_layer_norm"),
        ({"encoder.final_layer_norm.weight": torch.full((6,), -torch.inf)}, "final_layer_norm"),
    ],
    ids=["missing", "unknown", "mis-shaped", "NaN", "infinite"],
)
def test_every_weight_is_accounted_for(mine: Path, changes: dict[str, torch.Tensor], named: str) -> None:
    error = refusal(edit_weights(mine, changes))
    assert isinstance(error, IntegrityError)
    assert named in error.summary


def test_a_weight_in_two_shards(mine: Path) -> None:
    tensors = load_file(mine / "model.safetensors")
    (mine / "model.safetensors").unlink()
    for shard in ("a.safetensors", "b.safetensors"):
        save_file(tensors, mine / shard, metadata={"format": "pt"})
    weight_map = {name: f"{'ab'[i % 2]}.safetensors" for i, name in enumerate(tensors)}
    (mine / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert "again in b.safetensors" in refusal(mine).summary


@pytest.mark.parametrize("shard", ["gone.safetensors", "../toy/model.safetensors", "/etc/passwd", 7])
def test_index_names_only_files_beside_it(mine: Path, shard: object) -> None:
    (mine / "model.safetensors").unlink()
    (mine / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"shared.weight": shard}}))
    error = refusal(mine)
    assert isinstance(error, IntegrityError)
    assert repr(shard) in error.summary


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_truncated_weights(mine: Path, kept: int) -> None:
    file = mine / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    error = refusal(mine)
    assert isinstance(error, IntegrityError)
    assert "truncated" in error.summary


def test_git_lfs_pointer(mine: Path) -> None:
    (mine / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    error = refusal(mine)
    assert "LFS" in error.summary
    assert "lfs pull" in error.fix
