"""How large things are: on a GPU as the aims ask, without one as small as runs all of the code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
GROUP, PATCHES = 20, 6  # series a group and output patches, as in chronos-forecasting's pull request 442
PLUGINS = "CHRONOS_EXPORT_PLUGINS"
OURS = "ours"  # how the names of ours begin

Record = dict[str, Any]
Section = Callable[["Setting"], Iterator[Record]]


@dataclass(frozen=True)
class Setting:
    """Sizes of a run.

    Attributes:
        device: "cuda" or "cpu".
        architecture: Compute capability times ten that the kernel is compiled for.
        sizes: Of the whole model, where they are not amazon/chronos-2's.
        context: Time steps of the whole model's rows.
        rows: Fewer and more rows of the whole model.
        calls: Rows a call among which upstream's own best is looked for, besides `rows`.
        layer: Rows, tokens and heads of one layer's group attention.
        segments: Segment lengths it is timed at.
        modes: Of `problem.MODES`, those it is timed in.
    """

    device: str
    architecture: int
    sizes: dict[str, int]
    context: int
    rows: tuple[int, int]
    calls: tuple[int, ...]
    layer: tuple[int, int, int]
    segments: tuple[int, ...]
    modes: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where this run compiles to, and where the package looks for its libraries."""
        return ROOT / "build" / "gpu_check" / self.device

    def use_folder(self) -> None:
        os.environ[PLUGINS] = str(self.folder)


def dry() -> Setting:
    """The smallest sizes, on a CPU."""
    return Setting(
        device="cpu",
        architecture=90,
        sizes={"d_model": 64, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 4},
        context=96,
        rows=(40, 80),
        calls=(20,),
        layer=(40, 3, 2),
        segments=(1, 20),
        modes=("float32", "tf32"),
    )


def on_gpu() -> Setting:
    """The sizes of the aims."""
    major, minor = torch.cuda.get_device_capability()
    return Setting(
        device="cuda",
        architecture=10 * major + minor,
        sizes={},
        context=1440,
        rows=(400, 2000),
        calls=(20, 40, 100, 200),
        layer=(2000, 97, 12),
        segments=(1, 5, 20, 100, 500, 2000),
        modes=("float32", "bfloat16", "tf32", "float16"),
    )


def failure(contender: str, error: Exception) -> Record:
    """What a contender cannot do is its line in the table; what ours cannot is a fault."""
    lines = str(error).strip().splitlines()
    record: Record = {"ms": None, "why": f"{type(error).__name__}: {lines[0][:100] if lines else ''}"}
    return record | ({"good": False} if contender.startswith(OURS) else {})
