"""The sections of a run, in the order of their worth: each in a process of its own, with a time limit."""

from __future__ import annotations

from dataclasses import dataclass

from .accuracy import check_accelerated
from .compiling import build_kernel, compile_plugin
from .correctness import check_kernel
from .engine_times import time_engines
from .engines import check_demo
from .layer import time_layers
from .sanitizer import run_sanitizers
from .setting import Section
from .small_batch import time_small
from .whole_model import time_model


@dataclass(frozen=True)
class Limited:
    """A section and the most seconds it may take; dry, half of its code needs a GPU and is left out."""

    run: Section
    limit_s: float
    dry: bool = True


SECTIONS: dict[str, Limited] = {
    "build": Limited(build_kernel, 60),
    "correctness": Limited(check_kernel, 75),
    "whole model": Limited(time_model, 150),
    "one layer": Limited(time_layers, 115),
    "one group of 20": Limited(time_small, 140),
    "accuracy": Limited(check_accelerated, 90),
    "compute-sanitizer": Limited(run_sanitizers, 110),
    "plugin": Limited(compile_plugin, 90),
    "engines": Limited(check_demo, 240),
    "engines, full size": Limited(time_engines, 480, dry=False),
}
