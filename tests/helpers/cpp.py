"""What the tests of the C++ plugin share: a compiler, and whether this machine can do more with it.

TENSORRT_INCLUDE_DIR       folder of NvInferRuntime.h, for all that compiles the plugin
TENSORRT_LEAN_PYTHONS      interpreters (separated by :) of environments with tensorrt_lean installed
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from chronos_export.engine import plugin_build

HERE = Path(__file__).parents[1] / "plugin"
SOURCE = plugin_build.source_dir()
HEADERS = os.environ.get("TENSORRT_INCLUDE_DIR")
LEAN = [python for python in os.environ.get("TENSORRT_LEAN_PYTHONS", "").split(":") if python]

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="compiles C++: install g++")
needs_headers = pytest.mark.skipif(
    not HEADERS or not shutil.which("nvcc"),
    reason="compiles the plugin: needs nvcc, and TENSORRT_INCLUDE_DIR, the folder of NvInferRuntime.h",
)


def compile_cpp(output: Path, *arguments: str | Path, compiler: str = "g++") -> Path:
    """Compile with warnings as errors; returns `output`."""
    warnings = ["-Wall", "-Wextra", "-Werror"]
    if compiler == "nvcc":  # knows where CUDA's headers and libraries are
        warnings = [f"-Xcompiler={','.join(warnings)}"]
    command = [compiler, "-std=c++17", "-O1", "-g", *warnings, *map(str, arguments), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return output
