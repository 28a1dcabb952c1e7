"""NVIDIA's compute-sanitizer over a small program that calls the library."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from chronos_export.machine.compiled import KERNEL_NAME

from .setting import ROOT, Record, Setting

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
TOOL_S = 25.0  # seconds a tool may take
PROGRAM = ROOT / "tests" / "gpu" / "launches.cu"


def build_program(library: Path, output: Path) -> None:
    """Compile `tests/gpu/launches.cu` against the library.

    Raises:
        RuntimeError: nvcc fails.
    """
    headers = ROOT / "plugins" / "group_attention"
    command = [
        "nvcc", "-std=c++17", "-O2", "-lineinfo", f"-I{headers}", PROGRAM, library, "-o", output,
        f"-Xlinker=-rpath,{library.parent.resolve()}",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"nvcc failed on {PROGRAM.name}: {done.stderr[-1000:]}")


def run_sanitizers(setting: Setting) -> Iterator[Record]:
    """One record a tool: good, or None where the tool cannot work here, and what it said last."""
    program = setting.folder / "launches"
    build_program(setting.folder / KERNEL_NAME, program)
    if setting.device == "cuda":
        for tool in TOOLS:
            yield {"check": tool, **_run_tool(tool, program, TOOL_S)}
    else:
        yield {"check": f"{PROGRAM.name} compiles", "good": True}


def _run_tool(tool: str, program: Path, timeout_s: float) -> Record:
    executable = shutil.which("compute-sanitizer")
    if executable is None:
        return {"good": None, "detail": "compute-sanitizer is not on this machine"}
    command = [executable, "--tool", tool, "--error-exitcode", "9", str(program)]
    begin = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return {"good": None, "detail": f"not done after {timeout_s:.0f} s"}
    said = (done.stdout + done.stderr).strip()
    if "Device not supported" in said:
        return {"good": None, "detail": "compute-sanitizer does not support this device"}
    last = said.splitlines()[-1] if said else ""
    return {"good": done.returncode == 0, "detail": last, "seconds": time.monotonic() - begin}
