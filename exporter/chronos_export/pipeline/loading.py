"""An artifact to a forecasting pipeline."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from chronos_export.artifact.reading import open_artifact
from chronos_export.runtime.choice import open_session

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

    from chronos_export.pipeline.model import SessionModel


def load(path: Path | str, provider: str = "auto", threads: int = 0) -> Chronos2Pipeline:
    """Open an artifact as a drop-in `Chronos2Pipeline`.

    Args:
        path: A folder that `chronos-export` published; every file is verified first.
        provider: "cpu" or "cuda" for onnxruntime, "openvino", or "tensorrt" or "tensorrt-rtx" for an engine;
            "auto" is onnxruntime on the CPU, or OpenVINO for bfloat16.
        threads: Threads of onnxruntime or OpenVINO; 0 leaves it to them.

    Returns:
        Upstream's pipeline with `predict`, `predict_quantiles` and `predict_df`. Its deep copies and pickles
        open and verify the artifact again.

    Raises:
        UsageError: There is no such folder, no such provider, no such engine in the artifact, or `threads` is
            not a number of threads.
        IntegrityError: The artifact is damaged.
        MachineError: The provider cannot be had here, or the engine was built for another machine.
    """
    with ThreadPoolExecutor(1) as aside:  # importing upstream keeps a core busy for seconds, as opening does
        upstream = aside.submit(import_module, "chronos")
        artifact = open_artifact(path)
        session, limits = open_session(artifact, provider, threads)
        upstream.result()
    from chronos_export.pipeline.model import as_pipeline

    again = partial(_model, artifact.path.absolute(), provider, threads)
    return as_pipeline(session, artifact.manifest.config["chronos_config"], limits, again)


def _model(path: Path, provider: str, threads: int) -> SessionModel:
    model: SessionModel = load(path, provider, threads).model
    return model
