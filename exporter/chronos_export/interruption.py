"""Ctrl-C, SIGTERM and a closed terminal: remembered, raised once, and held back where work must not be cut.

A library with a bare `except` may swallow the exception that a signal raises, so the signal is remembered. A
second signal must not cut short the cleaning up after the first.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


@dataclass
class _State:
    received: list[int] = field(default_factory=list)
    holding: int = 0  # blocks under way that are not to be cut short
    is_due: bool = False  # a signal came during one


_state = _State()


def watch() -> None:
    """From now on turn the signals into a KeyboardInterrupt, and remember them.

    A closed terminal stays ignored where it is (`nohup`).
    """
    for number in SIGNALS:
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)


def ignore() -> None:
    """From now on let nothing keep the process from ending as it is about to."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def exit_code() -> int | None:
    """Return what a shell calls the first signal that came, 128 and its number; None if none has."""
    return 128 + _state.received[0] if _state.received else None


@contextmanager
def deferred() -> Iterator[None]:
    """Let a block end before what comes meanwhile is raised. Signals come to the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.holding += 1
    try:
        yield
    finally:
        _state.holding -= 1
    if _state.is_due and not _state.holding:
        _state.is_due = False
        _interrupt()


def _on_signal(number: int, frame: FrameType | None) -> None:
    _state.received.append(number)
    if _state.holding:
        _state.is_due = True
    else:
        _interrupt()


def _interrupt() -> None:
    """Raise; unless it is not the first and something is being handled, which is most likely the first."""
    if len(_state.received) == 1 or sys.exc_info()[0] is None:
        raise KeyboardInterrupt
