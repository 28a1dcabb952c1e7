"""Import TensorRT or TensorRT-RTX, making good what a wheel left out.

TensorRT-RTX's ONNX parser opens `libtensorrt_rtx.so` as soon as it meets a plugin. The wheel ships
`libtensorrt_rtx.so.1` only, and the process aborts. The parser looks beside itself first, so it is loaded
through a folder of links in which the missing name exists.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from chronos_export.errors import MachineError, UsageError
from chronos_export.machine.packages import extra, install_command, require_runtime, runtime_extra

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_ORDER = ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so")


def require_installed(runtime: str) -> str:
    """The name of the Python package that builds and runs engines for `runtime`.

    Raises:
        UsageError: Unknown runtime.
        MachineError: The package is not installed.
    """
    if runtime not in MODULES:
        raise UsageError(f"unknown engine runtime {runtime!r}", allowed=" or ".join(MODULES))
    require_runtime(runtime)
    return MODULES[runtime]


def import_tensorrt(runtime: str, links: Path | None = None) -> Any:
    """The module `tensorrt` or `tensorrt_rtx`.

    Args:
        runtime: "tensorrt" or "tensorrt-rtx".
        links: An empty folder for links to the libraries, kept for as long as the process runs. Needed to
            parse ONNX for TensorRT-RTX, which must then not have been imported before; not needed to run.

    Raises:
        UsageError: Unknown runtime.
        MachineError: The package is missing, or was imported too early.
    """
    name = require_installed(runtime)
    if runtime == "tensorrt-rtx" and links is not None:
        if name in sys.modules:
            raise MachineError(
                "tensorrt_rtx was imported before its libraries were linked, so its ONNX parser would abort",
                fix="build engines with chronos_export.engine.build_engine, which uses a process of its own",
            )
        load_linked_libraries(links)
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise MachineError(
            f"the package {name} is installed but cannot be loaded: {error}",
            fix=install_command(extra(runtime_extra(runtime))),
        ) from error


def load_linked_libraries(links: Path) -> None:
    """Fill `links` with TensorRT-RTX's libraries, under versioned and plain names, and load them there."""
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
        for library in sorted(folder.glob("lib*.so.*")):
            (links / library.name).symlink_to(library)
            (links / f"{library.name.partition('.so')[0]}.so").symlink_to(library)
    for name in _ORDER:
        for library in sorted(links.glob(f"{name}.*")):
            ctypes.CDLL(str(library))
