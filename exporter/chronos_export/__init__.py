"""chronos-export: Chronos-2 as one ONNX graph and TensorRT engines, proven equal to upstream.

export      checkpoint -> artifact
load        artifact -> Chronos2Pipeline on onnxruntime, OpenVINO or TensorRT
Forecaster  artifact -> the same forecasts as numpy arrays, without PyTorch
accelerate  Chronos2Pipeline -> the same on PyTorch, with group attention by segments
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# onnxruntime reads it once, when it is imported, and would write to the user's cache and report to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from chronos_export.exporting.export import export
    from chronos_export.forecaster.forecaster import Forecaster
    from chronos_export.model.accelerating import accelerate
    from chronos_export.pipeline.loading import load

__version__ = "0.1.0"
__all__ = ["Forecaster", "accelerate", "export", "load"]

_HOMES = {
    "Forecaster": "forecaster.forecaster",
    "accelerate": "model.accelerating",
    "export": "exporting.export",
    "load": "pipeline.loading",
}


def __getattr__(name: str) -> Any:
    """Import the heavy parts when they are first asked for, so that `chronos-export --help` is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        home = import_module(f"{__name__}.{_HOMES[name]}")
    except AttributeError as error:  # of a library; Python would only say that there is no such name
        raise ImportError(f"{name} cannot be imported: {error}") from error
    return getattr(home, name)
