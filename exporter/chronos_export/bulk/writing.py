"""What a forecast is written as, and a file that appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from chronos_export.errors import MachineError
from chronos_export.forecaster.frequency import Stamps
from chronos_export.runtime.session import Floats


@dataclass(frozen=True)
class Answer:
    """Rows of a forecast, by series, target and step.

    Attributes:
        index: What the first three columns are called.
        ids: Which series each row is of.
        stamps: [rows].
        targets: Which target each row is of.
        numbers: Column -> float32 [rows].
    """

    index: tuple[str, str, str]
    ids: list[Any]
    stamps: Stamps
    targets: list[str]
    numbers: dict[str, Floats]


class Output(Protocol):
    """A file that is written."""

    def write(self, answer: Answer) -> None:
        """Write some rows."""
        ...

    def close(self) -> None:
        """End the file."""
        ...


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside `path`; what is there when the block ends is then at `path`, unless it raises.

    Raises:
        MachineError: It cannot be written.
    """
    staging = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield staging
        with staging.open("rb+") as file:
            os.fsync(file.fileno())
        staging.replace(path)
    except OSError as error:
        fix = "give another name, or make room"
        raise MachineError(f"{path} cannot be written: {error.strerror or error}", fix=fix) from error
    finally:
        staging.unlink(missing_ok=True)
