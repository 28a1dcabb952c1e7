"""An artifact to a forecasting pipeline."""

from __future__ import annotations

from pathlib import Path

from chronos import Chronos2Pipeline

from chronos_export.artifact import open_artifact
from chronos_export.pipeline import as_pipeline
from chronos_export.plan import Limits
from chronos_export.session import OrtSession


def load(path: Path | str, provider: str = "cpu", threads: int = 0) -> Chronos2Pipeline:
    """Open an artifact as a drop-in `Chronos2Pipeline`.

    Args:
        path: A folder that `chronos-export` published; every file is verified first.
        provider: "cpu" or "cuda", for onnxruntime.
        threads: Threads inside an operator; 0 leaves it to onnxruntime.

    Returns:
        Upstream's pipeline with `predict`, `predict_quantiles` and `predict_df`.

    Raises:
        UsageError: There is no such folder, or no such provider.
        IntegrityError: The artifact is damaged.
        MachineError: The provider cannot be had here.
    """
    artifact = open_artifact(path)
    session = OrtSession(artifact.path, provider, threads)
    limits = Limits(**artifact.manifest.call_size)
    return as_pipeline(session, artifact.manifest.config["chronos_config"], limits)
