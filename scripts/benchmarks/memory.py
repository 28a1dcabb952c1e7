"""Peak memory of a call: of this process as Linux counts it, or of the GPU as PyTorch does."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import torch

_PROC = Path("/proc/self")


class PeakMemory:
    """The growth of resident memory from a beginning to the highest point since.

    Writing 5 to /proc/self/clear_refs makes the present the highest point so far, and VmHWM of
    /proc/self/status is the highest since; what VmRSS was at the beginning is taken off. So what was loaded
    before, weights above all, does not count. Nor does what a library kept of an earlier call: open a session
    anew to see what it needs. Where Linux does not say, there is no peak.

    Args:
        device: "cpu", or "cuda" for what PyTorch allocates there.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._on_gpu = device == "cuda"
        if self._on_gpu:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._before: int | None = torch.cuda.memory_allocated()
            return
        _give_back()
        self._before = _status("VmRSS") if _reset_peak() else None

    def bytes(self) -> int | None:
        """The growth so far, or None where it cannot be told."""
        highest = torch.cuda.max_memory_allocated() if self._on_gpu else _status("VmHWM")
        if self._before is None or highest is None:
            return None
        return max(0, highest - self._before)


def _reset_peak() -> bool:
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _give_back() -> None:
    """Return what was freed to the system, or a call that reuses it would seem to need nothing."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _status(entry: str) -> int | None:
    try:
        lines = (_PROC / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:")), None)
