"""Safetensors files and what must hold of them before a model is made from them.

Nothing here executes what it reads: a safetensors file is a JSON header and raw numbers. Pickled weights,
which run code when opened, are refused by name. What is checked is what is used: a file is opened once, and
its numbers are looked at in memory of our own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from chronos_export.checkpoint.source import FETCH_AGAIN, TRY_DEMO
from chronos_export.errors import IntegrityError, UsageError

Shapes = Mapping[str, tuple[int, ...]]

NUMBERS = ("F32", "BF16", "F16", "F64")  # safetensors' names of the types that weights may have
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
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{index} is not an index of weights: {error!r}", fix=FETCH_AGAIN) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (index.parent / name).is_file():
            raise IntegrityError(f"{index} names {name!r}, which is not a file beside it", fix=FETCH_AGAIN)
    return [index.parent / name for name in names]


@contextmanager
def opened(files: list[Path]) -> Iterator[Weights]:
    """The weights of one checkpoint, none of them read yet.

    Raises:
        IntegrityError: A file is truncated or not safetensors, a weight is in two of them, or is not of a
            floating type.
    """
    with ExitStack() as stack:
        found: dict[str, tuple[Path, Any]] = {}
        for file in files:
            try:
                tensors = stack.enter_context(safe_open(file, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise IntegrityError(f"{file} is {_diagnosis(file)}: {error}", fix=_cure(file)) from error
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                if name in found:
                    raise IntegrityError(
                        f"{name} is in {found[name][0].name} and again in {file.name}", fix=FETCH_AGAIN
                    )
                if (kind := tensors.get_slice(name).get_dtype()) not in NUMBERS:
                    raise IntegrityError(
                        f"{name} in {file} is of type {kind}", allowed=", ".join(NUMBERS), fix=FETCH_AGAIN
                    )
                found[name] = file, tensors
        yield Weights(found)


class Weights:
    """Weights in open files.

    Args:
        found: Name -> its file, and that file opened.
    """

    def __init__(self, found: Mapping[str, tuple[Path, Any]]) -> None:
        self._found = found

    @property
    def shapes(self) -> Shapes:
        """Name -> shape, from the files' headers."""
        return {name: self._shape(name) for name in self._found}

    def read(self, expected: Shapes) -> dict[str, torch.Tensor]:
        """All weights in float32, if they are the ones a model takes: same names and shapes, all finite.

        Args:
            expected: Name -> shape of every weight the model takes.

        Raises:
            IntegrityError: Naming the first weight that is unknown, mis-shaped, missing or not finite.
        """
        for name, (file, _) in self._found.items():
            if name not in expected:
                raise IntegrityError(
                    f"{file} holds a weight this model does not have: {name}", fix=FETCH_AGAIN
                )
            if self._shape(name) != tuple(expected[name]):
                raise IntegrityError(
                    f"{name} in {file} is {list(self._shape(name))},"
                    f" config.json makes it {list(expected[name])}",
                    fix=FETCH_AGAIN,
                )
        if missing := [name for name in expected if name not in self._found]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise IntegrityError(f"the checkpoint lacks the weight {missing[0]}{more}", fix=FETCH_AGAIN)
        return {name: self._tensor(name) for name in expected}

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._found[name][1].get_slice(name).get_shape())

    def _tensor(self, name: str) -> torch.Tensor:
        file, tensors = self._found[name]
        tensor: torch.Tensor = tensors.get_tensor(name).to(torch.float32, copy=True)  # out of the mapped file
        extremes = torch.stack(tensor.aminmax()) if tensor.numel() else tensor  # NaN is an extreme too
        if not bool(extremes.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            raise IntegrityError(
                f"{name} in {file} holds {bad} NaN or infinite values of {tensor.numel()}",
                allowed="finite weights",
                fix="train again, or use an earlier checkpoint",
            )
        return tensor


def shapes_of(state: Mapping[str, torch.Tensor]) -> Shapes:
    """Name -> shape of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as head:
        return head.read(40).startswith(b"version https://git-lfs")


def _diagnosis(file: Path) -> str:
    return "a Git LFS pointer, not weights" if _is_pointer(file) else "truncated or not safetensors"


def _cure(file: Path) -> str:
    return f"git -C {file.parent} lfs pull" if _is_pointer(file) else FETCH_AGAIN
