"""NVIDIA's compute-sanitizer over a small program that calls the library."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from chronos_export.machine.compiled import KERNEL_NAME

SOURCE = Path(__file__).with_name("launches.cu")
HEADERS = Path(__file__).parents[2] / "plugins" / "group_attention"
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"])


@pytest.fixture(scope="module")
def program(libraries: Path) -> Path:
    library, output = libraries / KERNEL_NAME, libraries / "launches"
    command = ["nvcc", "-std=c++17", "-O2", "-lineinfo", f"-I{HEADERS}", SOURCE, library, "-o", output]
    command.append(f"-Xlinker=-rpath,{libraries.resolve()}")
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def test_the_program_compiles(program: Path, device: str) -> None:
    assert program.is_file()


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_a_tool_finds_nothing(tool: str, program: Path) -> None:
    sanitizer = shutil.which("compute-sanitizer", path=PLACES)
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not on this machine")
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    said = done.stdout + done.stderr
    if "Device not supported" in said:
        pytest.skip("compute-sanitizer does not support this device")
    assert done.returncode == 0, said
