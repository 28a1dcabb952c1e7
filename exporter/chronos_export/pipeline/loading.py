"""An artifact to a forecasting pipeline."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from chronos_export.artifact.reading import open_artifact
from chronos_export.runtime.opening import open_session

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

    from chronos_export.pipeline.model import SessionModel


def load(path: Path | str, runtime: str = "auto", device: str = "auto", threads: int = 0) -> Chronos2Pipeline:
    """Open an artifact as a drop-in `Chronos2Pipeline`.

    Args:
        path: A folder that `chronos-export` published; every file is verified first.
        runtime: "onnxruntime", "openvino", "tensorrt" or "tensorrt-rtx"; "auto" takes an engine that this
            machine can run, then onnxruntime on a GPU, then the CPU.
        device: "cpu", "cuda", or "auto".
        threads: Threads on a CPU; 0 leaves it to the runtime.

    Returns:
        Upstream's pipeline with `predict`, `predict_quantiles` and `predict_df`; its `repr` says what it runs
        on. Its deep copies and pickles open and verify the artifact again.

    Raises:
        UsageError: There is no such folder, runtime, device or engine, or `threads` is not a number of
            threads.
        IntegrityError: The artifact is damaged.
        MachineError: The runtime cannot be had here, or the engine was built for another machine.
    """
    with ThreadPoolExecutor(1) as aside:  # importing upstream keeps a core busy for seconds, as opening does
        upstream = aside.submit(import_module, "chronos")
        artifact = open_artifact(path)
        opened = open_session(artifact, runtime, device, threads)
        upstream.result()
    from chronos_export.pipeline.model import as_pipeline

    again = partial(_model, artifact.path.absolute(), runtime, device, threads)
    settings = artifact.manifest.config["chronos_config"]
    return as_pipeline(
        opened.session, settings, opened.limits, again, name=f"{artifact.path} with {opened.choice}"
    )


def _model(path: Path, runtime: str, device: str, threads: int) -> SessionModel:
    model: SessionModel = load(path, runtime, device, threads).model
    return model
