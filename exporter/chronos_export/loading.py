"""An artifact to a forecasting pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from chronos import Chronos2Pipeline

from chronos_export.artifact import Artifact, open_artifact
from chronos_export.errors import UsageError
from chronos_export.manifest import hash_file
from chronos_export.pipeline import as_pipeline
from chronos_export.plan import Limits
from chronos_export.session import PROVIDERS, OrtSession, Session
from chronos_export.targets import check_plugin, engine_info, plugin_library
from chronos_export.trt_libraries import MODULES

WHOLE_BATCH = 2**31  # a GPU is filled by the profile, not by a token count


def load(path: Path | str, provider: str = "cpu", threads: int = 0) -> Chronos2Pipeline:
    """Open an artifact as a drop-in `Chronos2Pipeline`.

    Args:
        path: A folder that `chronos-export` published; every file is verified first.
        provider: "cpu" or "cuda" for onnxruntime; "tensorrt" or "tensorrt-rtx" for an engine.
        threads: Threads inside an operator of onnxruntime; 0 leaves it to onnxruntime.

    Returns:
        Upstream's pipeline with `predict`, `predict_quantiles` and `predict_df`.

    Raises:
        UsageError: There is no such folder, no such provider, or no such engine in the artifact.
        IntegrityError: The artifact is damaged.
        MachineError: The provider cannot be had here, or the engine was built for another machine.
    """
    artifact = open_artifact(path)
    session, limits = open_session(artifact, provider, threads)
    return as_pipeline(session, artifact.manifest.config["chronos_config"], limits)


def open_session(artifact: Artifact, provider: str, threads: int = 0) -> tuple[Session, Limits]:
    """The backend of an artifact and how large a call it takes; see `load`."""
    limits = Limits(**artifact.manifest.call_size)
    if provider in PROVIDERS:
        return OrtSession(artifact.path, provider, threads), limits
    if provider not in MODULES:
        raise UsageError(f"unknown provider {provider!r}", allowed=", ".join([*PROVIDERS, *MODULES]))
    entry = _engine_entry(artifact, provider)
    return _tensorrt_session(artifact, entry), replace(
        limits, tokens=WHOLE_BATCH, padding=1.0, profiles=tuple(entry["profiles"])
    )


def _engine_entry(artifact: Artifact, target: str) -> dict[str, Any]:
    entries = {entry["target"]: entry for entry in artifact.manifest.engines}
    if target not in entries:
        raise UsageError(
            f"{artifact.path} holds no {target} engine",
            allowed=", ".join([*PROVIDERS, *entries]),
            fix=rebuild_command(artifact, target),
        )
    return entries[target]


def _tensorrt_session(artifact: Artifact, entry: dict[str, Any]) -> Session:
    from chronos_export.engine_load import load_engine
    from chronos_export.tensorrt_session import TensorRtSession

    info = engine_info(entry, artifact.path)
    library = plugin_library()
    rebuild = rebuild_command(artifact, info.target)
    if library is not None:
        check_plugin(entry, hash_file(library).sha256, rebuild)
    digest = artifact.manifest.files[entry["path"]].sha256
    return TensorRtSession(load_engine(info, digest, library, rebuild), info)


def rebuild_command(artifact: Artifact, target: str) -> str:
    """The command that builds an artifact's engine anew."""
    rows = ",".join(str(rows) for rows in artifact.manifest.profiles)
    source = artifact.manifest.checkpoint["source"]
    return f"chronos-export --model {source} --batch {rows} --target {target} -o {artifact.path} --force"
