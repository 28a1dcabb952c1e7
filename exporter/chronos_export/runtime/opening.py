"""Opening the sessions of an artifact."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.reading import Artifact
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.errors import UsageError
from chronos_export.graph_contract import GENERAL, INLINED, UNIVARIATE, WEIGHTS
from chronos_export.machine.compiled import plugin_library
from chronos_export.machine.packages import require, require_runtime
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.choice import AUTO, CPU, Choice, choose, engine_entry
from chronos_export.runtime.cpu_runtimes import ONNXRUNTIME, OPENVINO, installed_cpu_runtimes
from chronos_export.runtime.session import Files, Session

WHOLE_BATCH = 2**31  # a GPU is filled by the profile, not by a token count
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """A session and what it is.

    Attributes:
        session: Answers calls.
        limits: How large one call may be.
        choice: The runtime and the device.
    """

    session: Session
    limits: Limits
    choice: Choice


def open_session(artifact: Artifact, runtime: str = AUTO, device: str = AUTO, threads: int = 0) -> Opened:
    """Open an artifact on a runtime.

    Args:
        artifact: Verified.
        runtime: "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", or "auto".
        device: "cpu", "cuda", or "auto".
        threads: Threads on a CPU; 0 leaves it to the runtime.

    Raises:
        UsageError: There is no such runtime, device or engine, or `threads` is not a number of threads.
        MachineError: The runtime cannot be had here, or the engine was built for another machine.
    """
    if not isinstance(threads, int) or threads < 0:
        raise UsageError(f"threads is {threads!r}", allowed="a number, or 0 to leave it to the runtime")
    choice = choose(artifact, runtime, device)
    LOG.info("%s runs with %s (%s)", artifact.path, choice, choice.reason)
    if choice.advice:
        LOG.warning("the GPU of this machine is not used; %s would let it answer", choice.advice)
    limits = Limits(**asdict(artifact.manifest.call_size))
    if choice.runtime in (ONNXRUNTIME, OPENVINO):
        return Opened(_graphs(artifact, choice.runtime, choice.device, threads), limits, choice)
    entry = engine_entry(artifact, choice.runtime)
    artifact.file(entry["path"])  # only what the manifest vouches for
    info = EngineInfo.from_entry(entry, artifact.path)
    whole = replace(limits, tokens=WHOLE_BATCH, padding=1.0, profiles=info.profiles)
    return Opened(_engine(artifact, info), whole, choice)


def files_read(choice: Choice) -> tuple[str, ...]:
    """Return the files that `open_session` reads and verifies itself, so that they are read once."""
    graphs = {ONNXRUNTIME: (GENERAL, UNIVARIATE, WEIGHTS), OPENVINO: (INLINED, UNIVARIATE, WEIGHTS)}
    return graphs.get(choice.runtime, ())


def cpu_sessions(files: Files, dtype: str) -> dict[str, Session]:
    """Return runtime -> session, of the runtimes that are installed and compute a dtype on the CPU.

    Args:
        files: Where the graphs are.
        dtype: What they compute in.
    """
    return {name: _graphs(files, name) for name in installed_cpu_runtimes(dtype)}


def _graphs(files: Files, runtime: str, device: str = CPU, threads: int = 0) -> Session:
    require_runtime(runtime, device)
    if runtime == ONNXRUNTIME:
        from chronos_export.runtime.onnxruntime_session import OrtSession

        return OrtSession(files, device, threads)
    from chronos_export.runtime.openvino_session import OpenVinoSession

    return OpenVinoSession(files, threads)


def _engine(artifact: Artifact, info: EngineInfo) -> Session:
    require("an engine", ["torch"])  # holds its memory
    from chronos_export.runtime.tensorrt_loading import load_engine
    from chronos_export.runtime.tensorrt_session import TensorRtSession

    name = info.path.relative_to(artifact.path).as_posix()
    digest = artifact.manifest.files[name].sha256
    rebuild = rebuild_command(artifact.path, artifact.manifest, info.runtime)
    return TensorRtSession(load_engine(info, digest, plugin_library(), rebuild), info)
