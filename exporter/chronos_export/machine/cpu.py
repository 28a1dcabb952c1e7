"""The processors that this process may use."""

from __future__ import annotations

import os


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
