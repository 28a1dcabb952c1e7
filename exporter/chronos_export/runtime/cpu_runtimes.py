"""Which runtimes compute a dtype on the CPU, and which of them are here.

onnxruntime has no bfloat16 products on a CPU, and OpenVINO computes float16 graphs in float32 and 8-bit ones
slowly.
"""

from __future__ import annotations

from importlib.util import find_spec

from chronos_export.errors import MachineError

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
    if has_engine or installed_cpu_runtimes(dtype):
        return
    needed = CPU_RUNTIMES[dtype][0]
    extra = "cpu" if needed == ONNXRUNTIME else needed
    raise MachineError(
        f"{dtype} on a CPU needs {needed}, which is not installed",
        allowed=", ".join(name for name, runtimes in CPU_RUNTIMES.items() if ONNXRUNTIME in runtimes),
        fix=f"pip install 'chronos-export[{extra}]'",
    )


def installed_cpu_runtimes(dtype: str) -> list[str]:
    """Return the runtimes that are here and compute a dtype on the CPU, the preferred one first."""
    return [name for name in CPU_RUNTIMES[dtype] if find_spec(name) is not None]
