"""What this machine has of what an export and a forecast can use. Nothing is fetched or changed."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from chronos_export.machine.gpu import driver_version

REQUIRED = ("chronos-export", "chronos-forecasting", "torch", "onnx", "onnxruntime", "polygraphy")
OPTIONAL = ("onnxruntime-gpu", "tensorrt", "tensorrt-cu13", "tensorrt-rtx", "peft", "huggingface-hub")


def examine() -> dict[str, Any]:
    """Everything a bug report needs, as plain data.

    Returns:
        python, system, cores, packages (name -> version or None), providers (of onnxruntime), gpus,
        driver, hub_cache, disk_free_bytes, missing (required packages that are not there).
    """
    packages = {name: _version(name) for name in (*REQUIRED, *OPTIONAL)}
    runtimes = {"onnxruntime", "onnxruntime-gpu"}
    missing = [name for name in REQUIRED if packages[name] is None and name not in runtimes]
    if not any(packages[name] for name in runtimes):
        missing.append("onnxruntime")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": packages,
        "providers": _providers(),
        "gpus": _gpus(),
        "driver": driver_version(),
        "hub_cache": _hub_cache(),
        "disk_free_bytes": shutil.disk_usage(".").free,
        "missing": missing,
    }


def as_text(found: dict[str, Any]) -> str:
    """The findings for a reader, a line each."""
    lines = [
        ("python", f"{found['python']} on {found['system']}, {found['cores']} cores"),
        *((name, number or "not installed") for name, number in found["packages"].items()),
        ("providers", ", ".join(found["providers"]) or "none: onnxruntime does not load"),
        ("gpu", ", ".join(found["gpus"]) or "none"),
        ("driver", found["driver"] or "none"),
        ("hub cache", found["hub_cache"]),
        ("disk", f"{found['disk_free_bytes'] / 1e9:.1f} GB free here"),
    ]
    return "\n".join(f"{name:20}{value}" for name, value in lines)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError:
        return []
    return list(onnxruntime.get_available_providers())


def _gpus() -> list[str]:
    try:
        import torch
    except ImportError:
        return []
    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [f"{gpu.name} (compute capability {gpu.major}.{gpu.minor})" for gpu in found]


def _hub_cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)
