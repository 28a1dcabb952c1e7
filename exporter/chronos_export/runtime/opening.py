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
from chronos_export.runtime.batched import BatchedSession
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.choice import (
    AUTO,
    CPU,
    Choice,
    choose,
    choose_for_graphs,
    engines_here,
    engines_of,
)
from chronos_export.runtime.cpu_runtimes import ONNXRUNTIME, OPENVINO, installed_cpu_runtimes
from chronos_export.runtime.groups_elsewhere import GroupsElsewhere
from chronos_export.runtime.session import Deferred, Files, Session

WHOLE_BATCH = 2**31  # a GPU is filled by the profile, not by a token count
LEAST = 4096  # tokens of a call that takes a GPU about as long as its kernels take to launch
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
    artifact.warn_if_not_proven()
    choice = choose(artifact, runtime, device)
    LOG.info("%s runs with %s (%s)", artifact.path, choice, choice.reason)
    if choice.advice:
        LOG.warning("the GPU of this machine is not used; %s would let it answer", choice.advice)
    limits = Limits(**asdict(artifact.manifest.call_size))
    if choice.runtime in (ONNXRUNTIME, OPENVINO):
        return Opened(_graphs(artifact, choice.runtime, choice.device, threads), limits, choice)
    return _engines(artifact, choice, limits, runtime == AUTO)


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


def _engines(artifact: Artifact, choice: Choice, limits: Limits, automatic: bool) -> Opened:
    """The engines of a runtime: all that there are or, where nobody named it, all that run here."""
    engines = engines_of(artifact, choice.runtime)
    if automatic:
        runnable, _ = engines_here(artifact)
        engines = [info for info in engines if info in runnable]
    by_graph = {info.graph: info for info in engines}
    general, univariate = by_graph.get(GENERAL), by_graph.get(UNIVARIATE)
    whole = replace(
        limits,
        tokens=WHOLE_BATCH,
        least=LEAST,
        profiles=general.profiles if general else (),
        univariate_profiles=univariate.profiles if univariate else None,
    )
    session = _engine_session(artifact, general, univariate)
    if general:
        return Opened(session, whole, choice)
    groups = choose_for_graphs(artifact)
    LOG.info("%s answers rows in groups with %s", artifact.path, groups)
    return Opened(_with_groups(artifact, session, groups, limits), whole, choice)


def _engine_session(
    artifact: Artifact, general: EngineInfo | None, univariate: EngineInfo | None
) -> Deferred:
    require("an engine", ["torch"])  # holds its memory
    from chronos_export.runtime.tensorrt_loading import LoadedEngine, load_engine
    from chronos_export.runtime.tensorrt_session import TensorRtSession

    def load(info: EngineInfo | None) -> LoadedEngine | None:
        if info is None:
            return None
        name = info.path.relative_to(artifact.path).as_posix()
        artifact.file(name)  # only what the manifest vouches for
        rebuild = rebuild_command(artifact.path, artifact.manifest, info.runtime)
        return load_engine(info, artifact.manifest.files[name].sha256, plugin_library(), rebuild)

    return TensorRtSession(load(general), load(univariate))


def _with_groups(artifact: Artifact, engine: Deferred, groups: Choice, limits: Limits) -> GroupsElsewhere:
    settings = artifact.manifest.config.chronos_config

    def open_groups() -> BatchedSession:
        return BatchedSession(
            _graphs(artifact, groups.runtime, groups.device),
            limits,
            patch=settings.output_patch_size,
            context_length=settings.context_length,
            quantiles=len(settings.quantiles),
        )

    return GroupsElsewhere(engine, open_groups, settings.output_patch_size)
