"""What this machine has of what an export and a forecast can use. Nothing is fetched or changed."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import version
from typing import Any

from chronos_export.machine.cpu import available_cores
from chronos_export.machine.gpu import driver_version, gpus
from chronos_export.machine.packages import PROJECT, extra, install_command, is_installed, owners

ADDS = {
    "": "inspect",
    "cpu": "forecasts on a CPU",
    "cuda": "forecasts on an NVIDIA GPU with onnxruntime",
    "openvino": "forecasts on a CPU, and the runtime of bfloat16 there",
    "tensorrt": "engines of TensorRT",
    "rtx": "engines of TensorRT-RTX, built without a GPU",
    "files": "Parquet files for forecast",
    "plot": "pictures of forecasts",
    "pipeline": "load and accelerate, which give upstream's pipeline",
    "export": "exporting and proving, beside a runtime",
    "serve": "a server, beside a runtime; in an environment without export",
}
CUDA_PROVIDER = "CUDAExecutionProvider"


def examine() -> dict[str, Any]:
    """Return everything a bug report needs, as plain data.

    Returns:
        python, system, cores, version, extras (name -> what it adds, the packages of it that are here with
        their versions, and the command that installs the rest, or ""), providers (of onnxruntime), gpus,
        driver, hub_cache, disk_free_bytes, problems (each a summary and a fix).
    """
    providers, problems = _onnxruntime()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": available_cores(),
        "version": version(PROJECT),
        "extras": {name or "base": _wing(name, providers) for name in ADDS},
        "providers": providers,
        "gpus": [f"{gpu.name} (compute capability {gpu.capability})" for gpu in gpus()],
        "driver": driver_version(),
        "hub_cache": _hub_cache(),
        "disk_free_bytes": shutil.disk_usage(".").free,
        "problems": problems,
    }


def as_text(found: dict[str, Any]) -> str:
    """Return the findings for a reader, one line each."""
    lines = [
        ("python", f"{found['python']} on {found['system']}, {found['cores']} cores"),
        (PROJECT, found["version"]),
        *((name, _wing_line(wing)) for name, wing in found["extras"].items()),
        ("providers", ", ".join(found["providers"]) or "none"),
        ("gpu", ", ".join(found["gpus"]) or "none"),
        ("driver", found["driver"] or "none"),
        ("hub cache", found["hub_cache"] or "none"),
        ("disk", f"{found['disk_free_bytes'] / 1e9:.1f} GB free here"),
    ]
    return "\n".join(f"{name:16}{value}" for name, value in lines)


def _wing(name: str, providers: list[str]) -> dict[str, Any]:
    """What is here of an extra, and the command that adds the rest."""
    packages = extra(name)
    missing = [package for package in packages if not is_installed(package)]
    if name == "cuda" and CUDA_PROVIDER not in providers:
        missing = list(packages)
    found = [package for package in packages if package not in missing]
    here = {owner: version(owner) for package in found for owner in owners(package)}
    return {"adds": ADDS[name], "packages": here, "install": install_command(missing) if missing else ""}


def _wing_line(wing: dict[str, Any]) -> str:
    here = ", ".join(f"{name} {number}" for name, number in wing["packages"].items())
    if not wing["install"]:
        return here
    return f"{f'only {here}' if here else 'not installed'}; adds {wing['adds']}: {wing['install']}"


def _onnxruntime() -> tuple[list[str], list[dict[str, str]]]:
    """The providers of onnxruntime, and what is wrong with how it was installed."""
    here = owners("onnxruntime")
    fix = install_command(extra("cuda" if gpus() else "cpu"))
    problems = []
    if len(here) > 1:
        both = f"{' and '.join(here)} are both installed, into the same folder: one has overwritten the other"
        problems.append({"summary": both, "fix": fix})
    if not here:
        return [], problems
    try:
        import onnxruntime

        return list(onnxruntime.get_available_providers()), problems
    except (ImportError, OSError, AttributeError) as error:
        problems.append({"summary": f"{' and '.join(here)} does not load: {error}", "fix": fix})
        return [], problems


def _hub_cache() -> str:
    if not is_installed("huggingface-hub"):
        return ""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)
