"""Which runtime answers: for an export that is proven, and for an artifact that is opened.

onnxruntime has no bfloat16 products on a CPU, and OpenVINO computes float16 graphs in float32 and 8-bit ones
slowly; where both can, both are proven.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.reading import Artifact
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.errors import MachineError, UsageError
from chronos_export.machine.compiled import plugin_library
from chronos_export.machine.tensorrt import MODULES
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.onnxruntime_session import PROVIDERS, OrtSession
from chronos_export.runtime.openvino_session import OpenVinoSession, has_openvino
from chronos_export.runtime.session import Session

AUTO = "auto"
WHOLE_BATCH = 2**31  # a GPU is filled by the profile, not by a token count
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
RUNTIMES = {
    "float32": (ONNXRUNTIME, OPENVINO),
    "tf32": (ONNXRUNTIME, OPENVINO),  # computed in float32 on a CPU
    "float16": (ONNXRUNTIME,),
    "bfloat16": (OPENVINO,),
    "int8": (ONNXRUNTIME,),
}
PROVIDER_OF = {ONNXRUNTIME: "cpu", OPENVINO: "openvino"}


def default_provider(dtype: str) -> str:
    """Return the provider of `load` that an artifact runs on where none is named."""
    return PROVIDER_OF[RUNTIMES[dtype][0]]


def cpu_sessions(folder: Path, dtype: str) -> dict[str, Session]:
    """Return name -> session, of the runtimes that are installed.

    Args:
        folder: Where the graphs are.
        dtype: What they compute in.
    """
    names = [name for name in RUNTIMES[dtype] if name == ONNXRUNTIME or has_openvino()]
    return {name: OrtSession(folder) if name == ONNXRUNTIME else OpenVinoSession(folder) for name in names}


def require_runtime(dtype: str, has_engine: bool) -> None:
    """Refuse at once an export that nothing here could prove.

    Raises:
        MachineError: No engine is built and no CPU runtime computes the dtype.
    """
    if has_engine or ONNXRUNTIME in RUNTIMES[dtype] or has_openvino():
        return
    raise MachineError(
        f"{dtype} on a CPU needs OpenVINO: onnxruntime has no such products there",
        allowed="float32, float16 and int8 without it",
        fix="pip install 'chronos-export[openvino]'",
    )


def open_session(artifact: Artifact, provider: str, threads: int = 0) -> tuple[Session, Limits]:
    """Return the session of an artifact and how large a call it takes; see `load`."""
    if not isinstance(threads, int) or threads < 0:
        raise UsageError(f"threads is {threads!r}", allowed="a number, or 0 to leave it to the runtime")
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
    from chronos_export.runtime.tensorrt_loading import load_engine
    from chronos_export.runtime.tensorrt_session import TensorRtSession

    name = info.path.relative_to(artifact.path).as_posix()
    digest = artifact.manifest.files[name].sha256
    rebuild = rebuild_command(artifact.path, artifact.manifest, info.target)
    return TensorRtSession(load_engine(info, digest, plugin_library(), rebuild), info)
