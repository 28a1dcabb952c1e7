"""The processors that this process may use."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def available_cores() -> int:
    """Return how many logical processors this process may run on, or fewer if OMP_NUM_THREADS asks for it."""
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        import psutil  # which takes its time

        process = psutil.Process()
        found = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(found or 1, int(wanted)) if wanted.isdecimal() and int(wanted) else found or 1


def cpu_name() -> str:
    """Return the processor's name, with family and model where Linux tells them: one name stands for many."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    found = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in reversed(lines))}
    if "model name" not in found:
        return platform.processor() or platform.machine()
    return f"{found['model name']} (family {found.get('cpu family', '?')}, model {found.get('model', '?')})"
