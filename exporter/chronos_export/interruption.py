"""Ctrl-C and SIGTERM, remembered: a library with a bare `except` may swallow the exception they raise."""

from __future__ import annotations

import signal
import sys
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143
_received: list[int] = []


def watch() -> None:
    """From now on remember both signals, besides raising for them."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _terminate)


def exit_code() -> int | None:
    """130 or 143 if such a signal has come, else None."""
    return _received[0] if _received else None


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(INTERRUPTED)
    raise KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> None:
    _received.append(TERMINATED)
    sys.exit(TERMINATED)
