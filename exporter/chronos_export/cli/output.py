"""stdout and stderr: written at once, printable, and never the reason why a process stays.

A reader may be slow, stalled or gone, and a disk full. Nothing is kept in a buffer that would be written, and
waited for, when the process ends.
"""

from __future__ import annotations

import errno
import io
import os
import re
import select
import sys
import unicodedata

from chronos_export import interruption
from chronos_export.errors import MachineError

READER_LEFT = {errno.EPIPE, errno.ECONNRESET, errno.EIO}
SLICE = 0.1  # seconds between two looks at whether we were told to stop
PATIENCE = 1.0  # seconds for which a stalled reader is waited for when we were
AT_ONCE = getattr(select, "PIPE_BUF", 512)  # bytes that a pipe which is ready takes without blocking
# Controls but tab and newline; what reverses the direction of text; halves of characters.
UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return the text with an escape for what would move a cursor or change what a terminal shows."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def fitting(text: str, columns: int) -> str:
    """Return as much of the text as a line of a terminal has room for; wide characters take two columns."""
    for length, character in enumerate(text):
        columns -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if columns < 0:
            return text[:length]
    return text


class Output(io.TextIOBase):
    """A text stream on a file descriptor, without a buffer.

    A reader who has left is no error: the rest is dropped. So is what a stalled reader does not take within
    `PATIENCE` once the process was told to stop.

    Args:
        descriptor: 1 or 2, or a copy of one.
        must_arrive: Whether a full disk is an error. On stderr it is not: there is nobody to tell.
    """

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, descriptor: int, *, must_arrive: bool = False) -> None:
        self.descriptor, self.must_arrive, self.is_gone = descriptor, must_arrive, False
        self._patience = PATIENCE

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Write all of it.

        Raises:
            MachineError: It must arrive and cannot.
        """
        left = text.encode(self.encoding, self.errors)
        with interruption.deferred():  # a line is written whole or not at all
            try:
                while left and not self.is_gone:
                    if self._is_ready():
                        left = left[os.write(self.descriptor, left[:AT_ONCE]) :]
            except OSError as error:
                self.is_gone = True
                if self.must_arrive and error.errno not in READER_LEFT:
                    raise _not_written(error) from error
        return len(text)

    def _is_ready(self) -> bool:
        """Wait a little until a write would return at once."""
        if not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        if poll.poll(1000 * SLICE):
            return True
        if interruption.exit_code() is not None:
            self._patience -= SLICE
            self.is_gone = self._patience <= 0
        return False


def _not_written(error: OSError) -> MachineError:
    return MachineError(
        f"the result cannot be written to stdout: {error.strerror}",
        allowed="a terminal, a pipe, or a file on a disk with room",
        fix="free some space, or send stdout elsewhere",
    )


def open_missing() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed: the next file opened would take its place."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.set_inheritable(
                os.open(os.devnull, os.O_RDWR), True
            )  # it takes the lowest number that is free
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w"))
