"""NVIDIA's compute-sanitizer over a small program that calls the library."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
PROGRAM = Path(__file__).resolve().parents[2] / "tests" / "gpu" / "launches.cu"


def build_program(library: Path, output: Path) -> None:
    """Compile `tests/gpu/launches.cu` against the library.

    Raises:
        RuntimeError: nvcc fails.
    """
    headers = PROGRAM.parents[2] / "plugins" / "group_attention"
    command = [
        "nvcc", "-std=c++17", "-O2", "-lineinfo", f"-I{headers}", PROGRAM, library, "-o", output,
        f"-Xlinker=-rpath,{library.parent.resolve()}",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"nvcc failed on {PROGRAM.name}: {done.stderr[-1000:]}")


def run_sanitizers(program: Path, timeout_s: float = 60) -> list[dict[str, Any]]:
    """One record a tool: good, or None where the tool cannot work here, and what it said last."""
    return [_run_tool(tool, program, timeout_s) for tool in TOOLS]


def _run_tool(tool: str, program: Path, timeout_s: float) -> dict[str, Any]:
    executable = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(executable).is_file():
        return {"tool": tool, "good": None, "detail": "compute-sanitizer is not on this machine"}
    command = [executable, "--tool", tool, "--error-exitcode", "9", str(program)]
    begin = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return {"tool": tool, "good": None, "detail": f"not done after {timeout_s:.0f} s"}
    said = (done.stdout + done.stderr).strip()
    if "Device not supported" in said:
        return {"tool": tool, "good": None, "detail": "compute-sanitizer does not support this device"}
    last = said.splitlines()[-1] if said else ""
    return {"tool": tool, "good": done.returncode == 0, "detail": last, "seconds": time.monotonic() - begin}
