"""Every error this package raises on purpose, one class per exit code.

    ChronosExportError
    ├── AccuracyError      1   the result is not what upstream forecasts
    ├── UsageError         2   an argument or an input cannot be used
    ├── MachineError       3   this machine lacks something: a package, a GPU, a plugin, disk space
    ├── BuildError         4   exporting or building an engine went wrong
    └── IntegrityError     5   a file is not the file it claims to be

A message says what was given, what is allowed and the command that fixes it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import ClassVar


class ChronosExportError(Exception):
    """Base of all deliberate errors.

    Args:
        summary: One sentence: what was given and why it cannot be used.
        allowed: What would have been accepted, if that helps.
        fix: A command, or one instruction, that mends it.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, summary: str, *, allowed: str = "", fix: str = "") -> None:
        self.summary, self.allowed, self.fix = summary, allowed, fix
        lines = [summary]
        if allowed:
            lines.append(f"  allowed: {allowed}")
        if fix:
            lines.append(f"  fix: {fix}")
        super().__init__("\n".join(lines))


class AccuracyError(ChronosExportError):
    """The exported model does not forecast what upstream forecasts."""

    exit_code = 1


class UsageError(ChronosExportError, ValueError):
    """An argument or an input cannot be used."""

    exit_code = 2


class MachineError(ChronosExportError):
    """This machine lacks a package, a device, a GPU, a plugin or disk space."""

    exit_code = 3


class BuildError(ChronosExportError):
    """Exporting the graph or building an engine failed."""

    exit_code = 4


class IntegrityError(ChronosExportError):
    """A published file is missing, altered, or of another version."""

    exit_code = 5


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and then, one by one, what it came from."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


class AccuracyWarning(UserWarning):
    """An artifact that is opened failed its validation, and was published all the same."""


warnings.simplefilter("always", AccuracyWarning, append=True)  # by every load, not by the first alone
