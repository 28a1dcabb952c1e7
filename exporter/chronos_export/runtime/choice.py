"""Which runtime and device answer for an artifact on this machine, and why.

`auto` takes an engine that this machine can run, then onnxruntime on a GPU, then the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.reading import Artifact
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.errors import MachineError, UsageError
from chronos_export.machine.gpu import device_capability
from chronos_export.machine.packages import extra, install_command, is_installed, runtime_extra
from chronos_export.machine.tensorrt import MODULES
from chronos_export.runtime.cpu_runtimes import CPU_RUNTIMES, ONNXRUNTIME, OPENVINO, installed_cpu_runtimes
from chronos_export.runtime.tensorrt_loading import why_not_here

AUTO, CPU, CUDA = "auto", "cpu", "cuda"
DEVICES = {ONNXRUNTIME: (CPU, CUDA), OPENVINO: (CPU,), **dict.fromkeys(MODULES, (CUDA,))}
NOT_ON_A_GPU = ("int8",)


@dataclass(frozen=True)
class Choice:
    """What computes.

    Attributes:
        runtime: One of `DEVICES`.
        device: "cpu" or "cuda".
        reason: One line for a log: why this and nothing before it.
        advice: The command after which the GPU of this machine would answer; "" if it does, or cannot.
    """

    runtime: str
    device: str
    reason: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.runtime} on {self.device}"


def choose(artifact: Artifact, runtime: str = AUTO, device: str = AUTO) -> Choice:
    """Return the runtime and the device for an artifact.

    Args:
        artifact: What is to be opened.
        runtime: "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", or "auto".
        device: "cpu", "cuda", or "auto".

    Raises:
        UsageError: There is no such runtime or device, or the runtime is not for the device.
    """
    _check(runtime, device)
    if runtime != AUTO:
        where = device if device != AUTO else DEVICES[runtime][0]
        dtype = artifact.manifest.dtype
        if (runtime, where) == (ONNXRUNTIME, CPU) and ONNXRUNTIME not in CPU_RUNTIMES[dtype]:
            raise MachineError(
                f"onnxruntime cannot compute {dtype} on a CPU",
                allowed=f"{', '.join(CPU_RUNTIMES[dtype])}; or onnxruntime on a GPU",
                fix=f"load({str(artifact.path)!r}, runtime={CPU_RUNTIMES[dtype][0]!r})",
            )
        return Choice(runtime, where, "asked for by name")
    if device == CPU:
        return choose_for_graphs(artifact, CPU)
    here, elsewhere = engines_here(artifact)
    passed = [f"{path}: {obstacle}" for path, obstacle in elsewhere.items()]
    if here:
        why = "the artifact holds an engine for this machine"
        return Choice(here[0].runtime, CUDA, "; ".join([why, *passed]))
    return choose_for_graphs(artifact, device, passed)


def choose_for_graphs(artifact: Artifact, device: str = AUTO, passed: Sequence[str] = ()) -> Choice:
    """Return what computes an artifact's graphs: onnxruntime on a GPU, or else a CPU.

    Args:
        artifact: What is to be opened.
        device: "cpu", "cuda", or "auto".
        passed: Why something better cannot be had.
    """
    dtype = artifact.manifest.dtype
    here = installed_cpu_runtimes(dtype) or CPU_RUNTIMES[dtype]
    if device == CPU:
        return Choice(here[0], CPU, "the CPU was asked for")
    obstacle = "" if device == CUDA else _no_onnxruntime_on_a_gpu(dtype)
    if not obstacle:
        return Choice(ONNXRUNTIME, CUDA, "; ".join([*passed, "no engine runs here"]))
    could_use_gpu = dtype not in NOT_ON_A_GPU and device_capability() is not None
    advice = install_command(extra(runtime_extra(ONNXRUNTIME, CUDA))) if could_use_gpu else ""
    return Choice(here[0], CPU, "; ".join([*passed, f"{ONNXRUNTIME} on {CUDA}: {obstacle}"]), advice)


def engines_here(artifact: Artifact) -> tuple[list[EngineInfo], dict[str, str]]:
    """Return the engines that this machine can run, and why it cannot run the others, by their paths."""
    here, elsewhere = list[EngineInfo](), dict[str, str]()
    for entry in artifact.manifest.engines:
        info = EngineInfo.from_entry(entry, artifact.path)
        if obstacle := why_not_here(info):
            elsewhere[entry["path"]] = obstacle
        else:
            here.append(info)
    return here, elsewhere


def engines_of(artifact: Artifact, runtime: str) -> list[EngineInfo]:
    """Return the engines for a runtime: of the general graph, of the univariate graph, or of both.

    Raises:
        UsageError: The artifact holds none.
    """
    engines = [EngineInfo.from_entry(entry, artifact.path) for entry in artifact.manifest.engines]
    found = [info for info in engines if info.runtime == runtime]
    if not found:
        names = dict.fromkeys([AUTO, ONNXRUNTIME, OPENVINO, *(info.runtime for info in engines)])
        raise UsageError(
            f"{artifact.path} holds no {runtime} engine",
            allowed=", ".join(names),
            fix=rebuild_command(artifact.path, artifact.manifest, runtime),
        )
    return found


def _check(runtime: str, device: str) -> None:
    if runtime not in (AUTO, *DEVICES):
        raise UsageError(f"unknown runtime {runtime!r}", allowed=", ".join([AUTO, *DEVICES]))
    devices: Sequence[str] = (CPU, CUDA) if runtime == AUTO else DEVICES[runtime]
    if device not in (AUTO, *devices):
        raise UsageError(f"{device!r} is no device of {runtime}", allowed=", ".join([AUTO, *devices]))


def _no_onnxruntime_on_a_gpu(dtype: str) -> str:
    """Why onnxruntime cannot answer on a GPU here, or ""."""
    if dtype in NOT_ON_A_GPU:
        return f"{dtype} is for CPUs"
    if device_capability() is None:
        return "this machine has no GPU"
    if not is_installed(ONNXRUNTIME):
        return "it is not installed"
    import onnxruntime

    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return "" if has_cuda else "the installed onnxruntime is for CPUs"
