"""Which runtime and device answer for an artifact on this machine, and why.

`auto` takes an engine that this machine can run, then onnxruntime on a GPU, then the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    dtype = artifact.manifest.dtype
    if runtime != AUTO:
        where = device if device != AUTO else DEVICES[runtime][0]
        if (runtime, where) == (ONNXRUNTIME, CPU) and ONNXRUNTIME not in CPU_RUNTIMES[dtype]:
            raise MachineError(
                f"onnxruntime cannot compute {dtype} on a CPU",
                allowed=f"{', '.join(CPU_RUNTIMES[dtype])}; or onnxruntime on a GPU",
                fix=f"load({str(artifact.path)!r}, runtime={CPU_RUNTIMES[dtype][0]!r})",
            )
        return Choice(runtime, where, "asked for by name")
    passed: list[str] = []
    if device != CPU:
        for entry in artifact.manifest.engines:
            obstacle = why_not_here(EngineInfo.from_entry(entry, artifact.path))
            if not obstacle:
                return Choice(entry["runtime"], CUDA, "the artifact holds an engine for this machine")
            passed.append(f"{entry['path']}: {obstacle}")
        if obstacle := "" if device == CUDA else _no_onnxruntime_on_a_gpu(dtype):
            passed.append(f"{ONNXRUNTIME} on {CUDA}: {obstacle}")
        else:
            return Choice(ONNXRUNTIME, CUDA, "; ".join([*passed, "no engine runs here"]))
    here = installed_cpu_runtimes(dtype) or CPU_RUNTIMES[dtype]
    could_use_gpu = device != CPU and dtype not in NOT_ON_A_GPU and device_capability() is not None
    advice = install_command(extra(runtime_extra(ONNXRUNTIME, CUDA))) if could_use_gpu else ""
    return Choice(here[0], CPU, "; ".join(passed) or "the CPU was asked for", advice)


def engine_entry(artifact: Artifact, runtime: str) -> dict[str, Any]:
    """Return the manifest's entry of the engine for a runtime.

    Raises:
        UsageError: The artifact holds none.
    """
    entries = {entry["runtime"]: entry for entry in artifact.manifest.engines}
    if runtime not in entries:
        raise UsageError(
            f"{artifact.path} holds no {runtime} engine",
            allowed=", ".join([AUTO, ONNXRUNTIME, OPENVINO, *entries]),
            fix=rebuild_command(artifact.path, artifact.manifest, runtime),
        )
    return entries[runtime]


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
