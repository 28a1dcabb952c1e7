"""An artifact to a forecasting pipeline."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronos_export.forecaster.model import open_model
from chronos_export.runtime.side_by_side import side_by_side

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

    from chronos_export.pipeline.model import SessionModel


def load(
    path: Path | str,
    runtime: str = "auto",
    device: str = "auto",
    threads: int = 0,
    digest: str | None = None,
) -> Chronos2Pipeline:
    """Open an artifact as a drop-in `Chronos2Pipeline`.

    Args:
        path: A folder that `chronos-export` published; every file is verified first. Where it is replaced at
            that moment, the pipeline is the old one's or the new one's.
        runtime: "onnxruntime", "openvino", "tensorrt" or "tensorrt-rtx"; "auto" takes an engine that this
            machine can run, then onnxruntime on a GPU, then the CPU.
        device: "cpu", "cuda", or "auto".
        threads: Threads on a CPU; 0 leaves it to the runtime.
        digest: Of the artifact that is wanted, as `chronos-export inspect` prints it; any will do if None.

    Returns:
        Upstream's pipeline with `predict`, `predict_quantiles` and `predict_df`; its `repr` says what it runs
        on. Its deep copies and pickles open and verify the artifact again, and no other one that may be
        there by then.

    Raises:
        UsageError: There is no such folder, runtime, device or engine, or `threads` or `digest` is none.
        IntegrityError: The artifact is damaged, or is not the one of that digest.
        MachineError: The runtime cannot be had here, or the engine was built for another machine.
    """
    # Importing upstream keeps a core busy for seconds, as opening does.
    steps: list[Callable[[], Any]] = [
        partial(open_model, path, runtime, device, threads, digest),
        partial(import_module, "chronos"),
    ]
    opened, _ = side_by_side(lambda step: step(), steps, len(steps))
    from chronos_export.pipeline.model import ExportedPipeline, SessionModel

    again = partial(_model, opened.path, runtime, device, threads, opened.digest)
    return ExportedPipeline(SessionModel(opened.model, again), opened.name)


def _model(path: Path, runtime: str, device: str, threads: int, digest: str) -> SessionModel:
    model: SessionModel = load(path, runtime, device, threads, digest).model
    return model
