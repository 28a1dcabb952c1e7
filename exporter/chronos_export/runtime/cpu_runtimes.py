"""Which runtimes compute a dtype on the CPU, and which of them are here.

onnxruntime has no bfloat16 products on a CPU, and OpenVINO computes float16 graphs in float32 and 8-bit ones
slowly.
"""

from __future__ import annotations

from chronos_export.machine.packages import is_installed, require

ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
CPU_RUNTIMES = {
    "float32": (ONNXRUNTIME, OPENVINO),
    "tf32": (ONNXRUNTIME, OPENVINO),  # computed in float32 on a CPU
    "float16": (ONNXRUNTIME,),
    "bfloat16": (OPENVINO,),
    "int8": (ONNXRUNTIME,),
}


def require_cpu_runtime(dtype: str, has_engine: bool) -> None:
    """Refuse at once an export that nothing here could prove.

    Raises:
        MachineError: No engine is built and no CPU runtime computes the dtype.
    """
    if not has_engine and not installed_cpu_runtimes(dtype):
        require(f"{dtype} on a CPU", [CPU_RUNTIMES[dtype][0]])


def installed_cpu_runtimes(dtype: str) -> list[str]:
    """Return the runtimes that are here and compute a dtype on the CPU, the preferred one first."""
    return [name for name in CPU_RUNTIMES[dtype] if is_installed(name)]
