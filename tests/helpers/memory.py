"""Peak memory of a call, as Linux counts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def peaks(*calls: Callable[[], object]) -> list[int]:
    """The peak of each call above what the process held before the first, in bytes.

    `ru_maxrss` would not do: it starts at the peak of the process that started this one.
    """
    before = _status("VmRSS")
    found = []
    for call in calls:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        call()
        found.append(_status("VmHWM") - before)
    return found


def resident() -> int:
    """What the process holds now, in bytes."""
    return _status("VmRSS")


def in_a_fresh_process(code: str) -> list[int]:
    """Run code that prints a list of peaks, where memory that is freed is given back at once.

    Memory that other tests, or the preparation of this one, left unused would hide growth.
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    prelude = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    command = [sys.executable, "-c", prelude + code]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    values: list[int] = json.loads(done.stdout)
    return values


def _status(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{entry}:"))
    return int(line.split()[1]) * 1024
