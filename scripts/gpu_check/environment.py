"""What the results came from: the GPU, its driver, the compiler, the packages."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata
from typing import Any

import torch

PACKAGES = (
    "torch",
    "triton",
    "onnx",
    "onnxruntime",
    "numpy",
    "transformers",
    "chronos-forecasting",
    "tensorrt-cu13",
)


def environment() -> dict[str, Any]:
    """Values that could be found; the others are None."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "nvcc": _last_line("nvcc", "--version"),
        "driver": _last_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "gpu": None,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
        }
    return found | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _last_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    return lines[-1] if done.returncode == 0 and lines else None
