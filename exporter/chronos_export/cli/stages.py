"""The stages under way, and a thread that says again how far the innermost is when nothing else is said."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from threading import Event as Flag
from threading import Thread
from time import monotonic

from chronos_export.errors import MachineError
from chronos_export.progress import Event

LOOK = 0.1  # seconds between two looks at whether something is to be said


class Stages:
    """What is under way, by name, and when something was last said of it.

    Args:
        lock: Held by whoever calls a method; the thread takes it too.
        again: Shows the last event of the innermost stage once more, its time gone on.
        silence: Seconds without a word after which it does; None never does.
    """

    def __init__(
        self, lock: AbstractContextManager[object], again: Callable[[Event], None], silence: float | None
    ) -> None:
        self._lock, self._again, self._silence = lock, again, silence
        self._open: dict[str, tuple[Event, float]] = {}  # name -> last event and when it came; innermost last
        self._began = self._said = monotonic()
        self._over = Flag()
        if silence is not None:
            Thread(target=self._watch, daemon=True).start()

    def take(self, event: Event) -> None:
        """Note an event of a stage."""
        if event.fraction == 1.0:
            self._open.pop(event.stage, None)
        elif event.fraction is not None or not event.message:  # else it is a warning
            self._open[event.stage] = (event, monotonic())

    def said(self) -> None:
        """Note that something was shown."""
        self._said = monotonic()

    @property
    def is_silent(self) -> bool:
        """Whether nothing was shown for so long that something should be."""
        return self._silence is not None and monotonic() - self._said >= self._silence

    def has_said_since(self, moment: float) -> bool:
        """Return whether something was shown since a moment of `time.monotonic`."""
        return self._said > max(moment, self._began)

    def end(self) -> None:
        """Say nothing more."""
        self._open.clear()
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            with self._lock, suppress(MachineError):  # whoever reports next meets it too
                if self._open and self.is_silent:
                    event, came = next(reversed(self._open.values()))
                    self._again(replace(event, seconds=event.seconds + monotonic() - came))
