"""A section in a process of its own: what it found before it crashed or ran out of time is kept."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import monotonic

from .records import Record

DONE = ""


def run_apart(
    section: Callable[[], Iterator[Record]], take: Callable[[Record], None], seconds: float | None
) -> str:
    """Run a section, give its records to `take` as they come, and end all that it started.

    Args:
        section: Importable, with its arguments bound by `functools.partial`.
        take: Called with every record.
        seconds: How long it may run, or None.

    Returns:
        Why it did not come to its end, or "".
    """
    context, deadline = get_context("spawn"), None if seconds is None else monotonic() + seconds
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(section, theirs))
    process.start()
    assert process.pid is not None
    theirs.close()
    try:
        while ours.poll(None if deadline is None else max(0.0, deadline - monotonic())):
            message = ours.recv()
            if isinstance(message, str):
                process.join(10)  # it ends by itself
                return message
            take(message)
    except EOFError:
        process.join()
        return f"it ended with status {process.exitcode}"
    finally:
        process.kill()  # it may not have its group yet
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return f"stopped after {seconds:.0f} s"


def _run(section: Callable[[], Iterator[Record]], records: Connection) -> None:
    os.setpgid(0, 0)
    try:
        for record in section():
            records.send(record)
    except Exception as error:
        records.send(f"{type(error).__name__}: {str(error)[:500]}")
        raise
    records.send(DONE)
