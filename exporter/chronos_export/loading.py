"""An artifact to a forecasting pipeline."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronos_export.artifact import Artifact, open_artifact
from chronos_export.compiled import plugin_library
from chronos_export.engine_info import EngineInfo
from chronos_export.errors import UsageError
from chronos_export.openvino_session import OpenVinoSession
from chronos_export.ort_session import PROVIDERS, OrtSession
from chronos_export.plan import Limits
from chronos_export.rebuild import rebuild_command
from chronos_export.runtimes import OPENVINO, default_provider
from chronos_export.session import Session
from chronos_export.trt_libraries import MODULES

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

    from chronos_export.pipeline import SessionModel

AUTO = "auto"
WHOLE_BATCH = 2**31  # a GPU is filled by the profile, not by a token count


def load(path: Path | str, provider: str = "auto", threads: int = 0) -> Chronos2Pipeline:
    """Open an artifact as a drop-in `Chronos2Pipeline`.

    Args:
        path: A folder that `chronos-export` published; every file is verified first.
        provider: "cpu" or "cuda" for onnxruntime, "openvino", or "tensorrt" or "tensorrt-rtx" for an engine;
            "auto" is onnxruntime on the CPU, or OpenVINO for bfloat16.
        threads: Threads of onnxruntime or OpenVINO; 0 leaves it to them.

    Warns:
        AccuracyWarning: The artifact failed its validation, and was published all the same.

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
    from chronos_export.pipeline import as_pipeline

    again = partial(_model, artifact.path.absolute(), provider, threads)
    return as_pipeline(session, artifact.manifest.config["chronos_config"], limits, again)


def _model(path: Path, provider: str, threads: int) -> SessionModel:
    model: SessionModel = load(path, provider, threads).model
    return model


def open_session(artifact: Artifact, provider: str, threads: int = 0) -> tuple[Session, Limits]:
    """The backend of an artifact and how large a call it takes; see `load`."""
    if not isinstance(threads, int) or threads < 0:
        raise UsageError(f"threads is {threads!r}", allowed="a number, or 0 to leave it to the runtime")
    artifact.warn_if_not_proven()
    limits = Limits(**artifact.manifest.call_size)
    if provider == AUTO:
        provider = default_provider(artifact.manifest.dtype)
    if provider in PROVIDERS:
        return OrtSession(artifact.path, provider, threads), limits
    if provider == OPENVINO:
        return OpenVinoSession(artifact.path, threads), limits
    if provider not in MODULES:
        raise UsageError(
            f"unknown provider {provider!r}", allowed=", ".join([AUTO, *PROVIDERS, OPENVINO, *MODULES])
        )
    entry = _engine_entry(artifact, provider)
    artifact.file(entry["path"])  # only what the manifest vouches for
    info = EngineInfo.from_entry(entry, artifact.path)
    whole = replace(limits, tokens=WHOLE_BATCH, padding=1.0, profiles=info.profiles)
    return _tensorrt_session(artifact, info), whole


def _engine_entry(artifact: Artifact, target: str) -> dict[str, Any]:
    entries = {entry["target"]: entry for entry in artifact.manifest.engines}
    if target not in entries:
        raise UsageError(
            f"{artifact.path} holds no {target} engine",
            allowed=", ".join([AUTO, *PROVIDERS, OPENVINO, *entries]),
            fix=rebuild_command(artifact.path, artifact.manifest, target),
        )
    return entries[target]


def _tensorrt_session(artifact: Artifact, info: EngineInfo) -> Session:
    from chronos_export.engine_load import load_engine
    from chronos_export.tensorrt_session import TensorRtSession

    name = info.path.relative_to(artifact.path).as_posix()
    digest = artifact.manifest.files[name].sha256
    rebuild = rebuild_command(artifact.path, artifact.manifest, info.target)
    return TensorRtSession(load_engine(info, digest, plugin_library(), rebuild), info)
