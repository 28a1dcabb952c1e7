"""What a long-running step says about itself while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """One line of progress.

    Args:
        stage: What is being done, in a word or two: `load`, `export`, `validate`.
        fraction: How much of the stage is done, in [0, 1]; None while that cannot be told, and for a warning,
            which has a message instead. 1.0 ends it.
        seconds: Time since the stage began.
        message: A detail worth a reader's time, or "".
    """

    stage: str
    fraction: float | None
    seconds: float
    message: str = ""


Report = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The `Report` of a caller who did not ask for one."""


class Stage:
    """A stage that has begun; `step` reports how far it is, until it is `over`."""

    def __init__(self, name: str, report: Report) -> None:
        self.name, self.over, self._report, self._begin = name, False, report, perf_counter()

    def step(self, fraction: float | None = None, message: str = "") -> None:
        """Report a share below 1: the end is reported once, by the end."""
        self._tell(None if fraction is None else min(fraction, 0.99), message)

    def counted(self, items: Sequence[T], what: str, begin: float, end: float) -> Iterator[T]:
        """Give the items, and report each before it is worked on: `upstream, case 12/43`.

        Args:
            items: What is worked on, one after the other.
            what: What is said before the number.
            begin: How much of the stage is done before the first.
            end: How much of it is done after the last.
        """
        for number, item in enumerate(items):
            self.step(begin + (end - begin) * number / len(items), f"{what} {number + 1}/{len(items)}")
            yield item

    def end(self) -> None:
        self._tell(1.0, "")

    def _tell(self, fraction: float | None, message: str) -> None:
        if not self.over:
            self._report(Event(self.name, fraction, perf_counter() - self._begin, message))


@contextmanager
def stage(name: str, report: Report) -> Iterator[Stage]:
    """Report the beginning of a stage and, unless it raises, its end.

    Args:
        name: What is being done.
        report: Called with every event, on the caller's thread.
    """
    running = Stage(name, report)
    running.step()
    try:
        yield running
        running.end()
    finally:
        running.over = True
