"""Which CPU runtimes answer for an export, by what it computes in.

onnxruntime has no bfloat16 products on a CPU, and OpenVINO computes float16 graphs in float32 and 8-bit ones
slowly; where both can, both are proven.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chronos_export.errors import MachineError
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.openvino_session import OpenVinoSession, has_openvino
from chronos_export.runtime.session import Session

if TYPE_CHECKING:
    from chronos_export.graph.precision import Precision

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
    """The provider of `load` that an artifact runs on where none is named."""
    return PROVIDER_OF[RUNTIMES[dtype][0]]


def cpu_sessions(folder: Path, precision: Precision) -> dict[str, Session]:
    """Name -> session, of the runtimes that are installed.

    Args:
        folder: Where the graphs are.
        precision: What they compute in.
    """
    names = [name for name in RUNTIMES[precision.name] if name == ONNXRUNTIME or has_openvino()]
    return {name: OrtSession(folder) if name == ONNXRUNTIME else OpenVinoSession(folder) for name in names}


def require_runtime(precision: Precision, has_engine: bool) -> None:
    """Refuse at once an export that nothing here could prove.

    Raises:
        MachineError: No engine is built and no CPU runtime computes the dtype.
    """
    if has_engine or ONNXRUNTIME in RUNTIMES[precision.name] or has_openvino():
        return
    raise MachineError(
        f"{precision.name} on a CPU needs OpenVINO: onnxruntime has no such products there",
        allowed="float32, float16 and int8 without it",
        fix="pip install 'chronos-export[openvino]'",
    )
