"""TensorRT: engines built, held against upstream and timed, on the demo checkpoint and at full size.

With TensorRT where it is installed, else with TensorRT-RTX; both need the compiled plugin to run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .accuracy import as_records
from .end_to_end import CONTEXT, GROUP, PATCHES, make_upstream
from .timing import median_ms

DEMO_ROWS, FULL_ROWS = (100, 200), (400, 2000)
DTYPES = ("float32", "tf32", "float16", "bfloat16")
FULL_DTYPES = ("float32", "bfloat16", "tf32", "float16")
BUILD_BUDGET_S = 150  # no type is begun after this, so that the whole run stays under ten minutes
AHEAD_OF_TIME = ("8.6",)  # what a machine without a GPU builds for


def check_demo(say: Callable[[str], None]) -> dict[str, Any]:
    """Build and prove the demo checkpoint in every type; one record a case.

    Raises:
        ImportError: chronos-forecasting or this package's needs are not installed.
    """
    from chronos_export.checkpoint import load_checkpoint, load_reference
    from chronos_export.engine_proof import prove_engine
    from chronos_export.exporting import cases_of
    from chronos_export.precision import precision_of

    options, reason = _options()
    if options is None:
        return {"why": reason}
    checkpoint = load_checkpoint("demo")
    reference, cases = load_reference(checkpoint).model, cases_of(checkpoint.config)
    records: list[dict[str, Any]] = []
    for dtype in DTYPES if torch.cuda.is_available() else DTYPES[:1]:
        with tempfile.TemporaryDirectory() as folder:
            info = _build(checkpoint, Path(folder), DEMO_ROWS, options, dtype)
            proof, results = prove_engine(reference, info, cases, precision_of(dtype), lambda event: None)
        say(f"{dtype}: {proof.line}")
        built = f"{info.plugin_layers} plugin layers, {info.build_seconds:.1f} s, {info.bytes / 1e6:.1f} MB"
        records.append({"check": f"{info.target} {dtype}", "good": True, "detail": f"{built}; {proof.line}"})
        records += as_records(results)
    return {"records": records}


def time_full_size(say: Callable[[str], None]) -> dict[str, Any]:
    """One row a type and row count: milliseconds of the engine, and the build's seconds, MB and memory.

    Raises:
        ImportError: chronos-forecasting or this package's needs are not installed.
    """
    from chronos import Chronos2Pipeline

    from chronos_export.checkpoint import load_checkpoint
    from chronos_export.compiled import plugin_library
    from chronos_export.engine_load import load_engine
    from chronos_export.manifest import hash_file
    from chronos_export.tensorrt_session import TensorRtSession

    options, reason = _options(context=CONTEXT, horizon=16 * PATCHES)
    if options is None:
        return {"why": reason}
    table: list[dict[str, Any]] = []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        Chronos2Pipeline(model=make_upstream().cpu()).save_pretrained(Path(folder, "full"))
        checkpoint = load_checkpoint(str(Path(folder, "full")))
        for dtype in FULL_DTYPES:
            if time.monotonic() - begin > BUILD_BUDGET_S:
                say(f"{dtype} left out: no time")
                continue
            (work := Path(folder, dtype)).mkdir()
            info = _build(checkpoint, work, FULL_ROWS, options, dtype)
            loaded = load_engine(info, hash_file(info.path).sha256, plugin_library(), "")
            session = TensorRtSession(loaded, info)
            for rows in FULL_ROWS:
                inputs = _inputs(rows)
                ms = median_ms(lambda x, session=session: session.run(*x), [inputs])
                table.append(
                    {
                        "engine": info.target,
                        "dtype": dtype,
                        "rows": rows,
                        "ms": round(ms, 2),
                        "ms a group of 20": round(ms / (rows / GROUP), 3),
                        "build, s": round(info.build_seconds, 1),
                        "plan, MB": round(info.bytes / 1e6),
                        "peak RSS, GB": round(info.peak_rss_bytes / 1e9, 2),
                    }
                )
                say(str(table[-1]))
    return {"table": table}


def _options(**limits: int) -> tuple[Any, str]:
    """What to build for, or None and why nothing can be built or run; limits are the model's unless given."""
    from chronos_export.targets import EngineOptions, choose

    if torch.cuda.is_available():
        options = EngineOptions(**limits)
        target, reason = choose(options)
        return (options, "") if target else (None, reason)
    from chronos_export.errors import MachineError
    from chronos_export.targets import require

    options = EngineOptions("tensorrt-rtx", compute_capabilities=AHEAD_OF_TIME)
    try:
        require(options)
    except MachineError as error:
        return None, error.summary
    return options, ""


def _build(checkpoint: Any, folder: Path, rows: tuple[int, ...], options: Any, dtype: str) -> Any:
    from chronos_export.exporting import write_graphs
    from chronos_export.precision import precision_of
    from chronos_export.targets import build_engines

    write_graphs(checkpoint, folder, precision_of(dtype))
    (info,) = build_engines(folder, rows, options, dtype == "tf32", lambda event: None)
    return info


def _inputs(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    context = torch.randn(rows, CONTEXT, device="cuda").cumsum(-1)
    future = torch.full((rows, 16 * PATCHES), torch.nan, device="cuda")
    return context, torch.arange(rows, device="cuda") // GROUP, future
