"""Whether an error means that memory or threads have run out, whatever a library made of it."""

from __future__ import annotations

import errno
import re

from chronos_export.errors import MachineError, causes

MEMORY = "bad_alloc|can(no|')t allocate memory|failed to allocate memory|not enough memory|out of memory"
THREADS = "can't start new thread|pthread_create|resource temporarily unavailable"


def exhausted(error: BaseException | None) -> MachineError | None:
    """Return what an error, or one it came from, says of an exhausted machine; None if nothing."""
    for cause in causes(error):
        if what := _lacks(cause):
            said = str(cause).splitlines()[0][:200] if str(cause) else type(cause).__name__
            return MachineError(
                f"this machine has no {what} left: {said}",
                allowed="room for the model and for what it computes",
                fix="end other processes, or ask for less: shorter contexts, fewer rows in a group",
            )
    return None


def _lacks(error: BaseException) -> str:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "memory"
    if isinstance(error, RuntimeError | OSError) or type(error).__module__.startswith("onnxruntime"):
        if re.search(MEMORY, str(error), re.IGNORECASE):
            return "memory"
        if re.search(THREADS, str(error), re.IGNORECASE):
            return "threads"
    return ""
