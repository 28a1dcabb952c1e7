"""TensorRT on the demo checkpoint: engines built in every type and held against upstream.

With TensorRT where it is installed, else with TensorRT-RTX; both need the compiled plugin to run. TensorRT's
own attention, where it has one, is a rival.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .accuracy import NARROW, SOURCE, as_records
from .setting import Record, Setting

ROWS = (100, 200)
DTYPES = ("float32", "tf32", "float16", "bfloat16")
AHEAD_OF_TIME = ("8.6",)  # what a machine without a GPU builds for
RIVAL = "TensorRT's own attention"


def check_demo(setting: Setting) -> Iterator[Record]:
    """One record an engine, and one a case that it was asked.

    Raises:
        ImportError: chronos-forecasting or this package's needs are not installed.
    """
    from chronos_export.checkpoint.loading import load_checkpoint, load_reference
    from chronos_export.errors import BuildError
    from chronos_export.validation.proof import cases_of

    options, obstacle = options_here(setting)
    if options is None:
        yield {"check": "engines", "good": None, "detail": obstacle}
        return
    checkpoint = load_checkpoint(SOURCE)
    reference, cases = load_reference(checkpoint).model, cases_of(checkpoint.config)
    for dtype in DTYPES if setting.device == "cuda" else DTYPES[:1]:
        try:
            yield from _check(checkpoint, reference, cases, options, dtype)
        except BuildError as error:
            yield not_built(dtype, error.summary)
    rival, obstacle = rival_here()
    if rival is None:
        yield {"check": RIVAL, "good": None, "detail": obstacle}
        return
    for dtype in NARROW:
        try:
            yield from _check(checkpoint, reference, cases, rival, dtype)
        except BuildError as error:
            yield {"check": f"{RIVAL}, {dtype}", "good": None, "detail": error.summary}


def _check(checkpoint: Any, reference: Any, cases: Any, options: Any, dtype: str) -> Iterator[Record]:
    from chronos_export.artifact.hashing import hash_file
    from chronos_export.graph.precision import precision_of
    from chronos_export.validation.engines import prove_engine

    with tempfile.TemporaryDirectory() as folder:
        info = build(checkpoint, Path(folder), ROWS, options, dtype)
        digest = hash_file(info.path).sha256
        proof, results = prove_engine(reference, info, digest, cases, precision_of(dtype), lambda event: None)
    built = f"{info.attention}, {info.build_seconds:.1f} s, {info.bytes / 1e6:.1f} MB"
    yield {"check": f"{info.runtime}, {dtype}", "good": True, "detail": f"{built}; {proof.line}"}
    yield from as_records(results, dtype)


def not_built(dtype: str, why: str) -> Record:
    """That an engine of ours could not be built; those of other types may still be."""
    return {"check": f"engine, {dtype}", "good": False, "detail": why}


def options_here(setting: Setting, **limits: int) -> tuple[Any, str]:
    """What to build for, or None and why nothing can be built or run; limits are the model's unless given."""
    from chronos_export.engine.choice import EngineOptions, choose, require
    from chronos_export.errors import MachineError

    if setting.device == "cuda":
        options = EngineOptions(**limits)
        runtime, obstacle = choose(options, ROWS, DTYPES[0])
        return (options, "") if runtime else (None, obstacle)
    options = EngineOptions("tensorrt-rtx", compute_capabilities=AHEAD_OF_TIME)
    try:
        require(options, ROWS, DTYPES[0])
    except MachineError as error:
        return None, error.summary
    return options, ""


def rival_here(**limits: int) -> tuple[Any, str]:
    """What to build for TensorRT's own attention, or None and why it cannot be built."""
    from chronos_export.engine.choice import EngineOptions, require
    from chronos_export.errors import MachineError

    options = EngineOptions("tensorrt", attention="native", **limits)
    try:
        require(options, ROWS, NARROW[0])
    except MachineError as error:
        return None, error.summary
    return options, ""


def build(checkpoint: Any, folder: Path, rows: Sequence[int], options: Any, dtype: str) -> Any:
    """The EngineInfo of an engine, built in `folder`."""
    from chronos_export.engine.building import build_engines
    from chronos_export.exporting.export import write_graphs
    from chronos_export.graph.precision import precision_of

    precision = precision_of(dtype)
    write_graphs(checkpoint, folder, precision)
    (info,) = build_engines(folder, rows, options, precision, lambda event: None)
    return info
