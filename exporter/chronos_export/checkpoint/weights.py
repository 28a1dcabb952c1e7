"""Safetensors files and what must hold of them before a model is made from them.

Nothing here executes what it reads: a safetensors file is a JSON header and raw numbers. Pickled weights,
which run code when opened, are refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from chronos_export.checkpoint.source import FETCH_AGAIN, TRY_DEMO
from chronos_export.errors import IntegrityError, UsageError

Shapes = Mapping[str, tuple[int, ...]]

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


def weight_files(folder: Path, stem: str = "model") -> list[Path]:
    """The safetensors files of a checkpoint: `<stem>.safetensors`, or the shards its index names.

    Raises:
        UsageError: There are none, or only pickles.
        IntegrityError: The index is unreadable or names a file that is not there.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        return _shards(index)
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickles:
        raise UsageError(
            f"{folder} holds pickled weights ({', '.join(pickles)}), which can run code when opened; "
            "they were not opened",
            allowed=f"{stem}.safetensors",
            fix="have whoever made it save it with pipeline.save_pretrained(FOLDER)",
        )
    raise UsageError(f"{folder} holds no weights", allowed=f"{stem}.safetensors", fix=TRY_DEMO)


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise IntegrityError(f"{index} is not an index of weights: {error!r}", fix=FETCH_AGAIN) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (index.parent / name).is_file():
            raise IntegrityError(f"{index} names {name!r}, which is not a file beside it", fix=FETCH_AGAIN)
    return [index.parent / name for name in names]


def read_tensors(files: list[Path]) -> Iterator[tuple[Path, str, torch.Tensor]]:
    """Every (file, name, tensor) of the files, one tensor in memory at a time.

    Raises:
        IntegrityError: A file is truncated or not safetensors at all.
    """
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    yield file, name, tensors.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise IntegrityError(f"{file} is {_diagnosis(file)}: {error}", fix=_cure(file)) from error


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as head:
        return head.read(40).startswith(b"version https://git-lfs")


def _diagnosis(file: Path) -> str:
    return "a Git LFS pointer, not weights" if _is_pointer(file) else "truncated or not safetensors"


def _cure(file: Path) -> str:
    return f"git -C {file.parent} lfs pull" if _is_pointer(file) else FETCH_AGAIN


def shapes_of(state: Mapping[str, torch.Tensor]) -> Shapes:
    """Name -> shape of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def check_weights(files: list[Path], expected: Shapes) -> None:
    """Hold the files against the weights a model takes: same names, each once, same shapes, all finite.

    Args:
        files: Safetensors files of one checkpoint.
        expected: Name -> shape of every weight the model takes.

    Raises:
        IntegrityError: Naming the first weight that is unknown, doubled, mis-shaped, not finite or missing.
    """
    seen: dict[str, Path] = {}
    for file, name, tensor in read_tensors(files):
        if name not in expected:
            raise IntegrityError(f"{file} holds a weight this model does not have: {name}", fix=FETCH_AGAIN)
        if name in seen:
            raise IntegrityError(f"{name} is in {seen[name].name} and again in {file.name}", fix=FETCH_AGAIN)
        if tuple(tensor.shape) != tuple(expected[name]):
            raise IntegrityError(
                f"{name} in {file} is {list(tensor.shape)}, config.json makes it {list(expected[name])}",
                fix=FETCH_AGAIN,
            )
        if not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise IntegrityError(
                f"{name} in {file} holds {bad} NaN or infinite values of {tensor.numel()}",
                allowed="finite weights",
                fix="train again, or use an earlier checkpoint",
            )
        seen[name] = file
    missing = [name for name in expected if name not in seen]
    if missing:
        raise IntegrityError(
            f"{files[0].parent} lacks the weight {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            fix=FETCH_AGAIN,
        )
