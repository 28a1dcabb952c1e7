"""What a command says: a live line or plain lines on stderr and the result on stdout, or JSON events.

With `--json` stdout carries one JSON object a line, each with an `event`: `stage`, `result` or `error`. The
last one is a `result` or an `error`, whatever ends the command.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from threading import RLock
from time import monotonic
from typing import Any

import click

from chronos_export import interruption
from chronos_export.cli.output import Output, fitting, printable
from chronos_export.cli.stages import Stages
from chronos_export.errors import ChronosExportError, MachineError
from chronos_export.progress import Event

CLEAR = "\r\x1b[2K"
STAGE, USUAL_COLUMNS = 12, 80  # width of a stage's name, and of a terminal that does not say
LIVE, LOGGED = 0.25, 1.0  # seconds of silence until a stage is shown again: on a terminal, elsewhere


class Console:
    """One command's output.

    Args:
        as_json: Events and the result as JSON on stdout, errors there and on stderr.
        is_quiet: No progress.
        is_verbose: Tracebacks, and what the libraries have to say.
    """

    def __init__(self, as_json: bool = False, is_quiet: bool = False, is_verbose: bool = False) -> None:
        self.as_json, self.is_quiet, self.is_verbose = as_json, is_quiet, is_verbose
        self.out, self.err = Output(1, must_arrive=True), Output(2)
        self._lock = RLock()  # downloads report from threads of their own, and a stage is shown again by one
        self._has_live_line = False
        self._stages: Stages | None = None  # from the first event on, when the flags are known

    @property
    def is_live(self) -> bool:
        """Whether progress may rewrite its line."""
        is_able = self.err.isatty() and os.environ.get("TERM") != "dumb"
        return is_able and not (self.as_json or self.is_quiet)

    @contextmanager
    def libraries(self) -> Iterator[None]:
        """Keep what libraries print off stdout, which is ours: to stderr with --verbose, else nowhere."""
        sys.stdout.flush()
        theirs = os.dup(2) if self.is_verbose else os.open(os.devnull, os.O_WRONLY)
        ours, all_along = os.dup(1), self.out
        os.dup2(theirs, 1)
        self.out = Output(ours, must_arrive=True)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(ours, 1)
            self.out = all_along
            os.close(ours)
            os.close(theirs)

    def report(self, event: Event) -> None:
        """Show progress; the `Report` given to every long step. Raises an interruption that was swallowed."""
        if interruption.exit_code() is not None:
            raise KeyboardInterrupt
        with self._alone():
            stages = self._watched()
            stages.take(event)
            if event.fraction is None and event.message and not self.as_json:
                self.note(f"warning: {event.message}")
            elif self.as_json or self.is_live or event.fraction == 1.0 or stages.is_silent:
                self._show(event)

    @contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Say nothing of what is done in the block, unless it takes long."""
        begin = monotonic()
        with self._alone():
            self._watched().take(Event(name, None, 0.0))
        yield
        with self._alone():
            end = Event(name, 1.0, monotonic() - begin)
            self._watched().take(end)
            if self._watched().has_said_since(begin):
                self._show(end)

    def result(self, content: dict[str, Any], text: str) -> None:
        """Say how it ended: `content` with --json, `text` without."""
        with self._alone():
            self._end_progress()
            if self.as_json:
                self._emit("result", content)
            else:
                self.out.write(printable(text) + "\n")

    def error(self, error: BaseException, exit_code: int) -> None:
        """Say what went wrong, once and readably."""
        known = error if isinstance(error, ChronosExportError) else None
        summary = known.summary if known else f"{type(error).__name__}: {_first_line(error)}"
        allowed, fix = (known.allowed, known.fix) if known else ("", "")
        if known is None and not self.is_verbose:
            fix = "run it with --verbose and report what it shows"
        with self._alone():
            self._end_progress()
            self._emit_end(exit_code, summary, allowed, fix)
            if self.is_verbose:
                self._say("".join(traceback.format_exception(error)).rstrip())
            self._say(_indented(summary), before=self._styled("error:", "red") + " ")
            for name, text in (("allowed", allowed), ("fix", fix)):
                if text:
                    self._say(_indented(text), before=f"  {name}: ")

    def interrupted(self, summary: str, exit_code: int) -> None:
        """Say that a signal ended the command."""
        with self._alone():
            self._end_progress()
            self._emit_end(exit_code, summary)
            self._say(summary)

    def note(self, text: str) -> None:
        """A line for the reader's eye that is no result."""
        with self._alone():
            self._end_live_line()
            if not self.is_quiet:
                self._say(_indented(text))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """What is said is said whole: not cut by a signal, nor by another thread."""
        with interruption.deferred(), self._lock:
            yield

    def _watched(self) -> Stages:
        if self._stages is None:
            shows = self.as_json or not self.is_quiet
            silence = (LIVE if self.is_live else LOGGED) if shows else None
            self._stages = Stages(self._lock, self._show, silence)
        return self._stages

    def _show(self, event: Event) -> None:
        if self.as_json:
            self._emit("stage", asdict(event))
        elif self.is_live:
            self._rewrite(event)
        elif not self.is_quiet:
            self._say(_line(event))
        self._watched().said()

    def _rewrite(self, event: Event) -> None:
        line = fitting(printable(_line(event)), _columns(self.err) - 1)  # a full line moves the cursor on
        colour = "green" if event.fraction == 1.0 else "cyan"
        styled = self._styled(line[:STAGE], colour) + line[STAGE:]
        self._has_live_line = event.fraction != 1.0
        self.err.write(f"{CLEAR}{styled}{'' if self._has_live_line else chr(10)}")

    def _end_live_line(self) -> None:
        if self._has_live_line:
            self.err.write("\n")
            self._has_live_line = False

    def _end_progress(self) -> None:
        self._watched().end()
        self._end_live_line()

    def _emit(self, kind: str, content: dict[str, Any]) -> None:
        self.out.write(json.dumps(_finite({"event": kind, **content})) + "\n")

    def _emit_end(self, exit_code: int, summary: str, allowed: str = "", fix: str = "") -> None:
        if self.as_json:
            content = {"exit_code": exit_code, "summary": summary, "allowed": allowed, "fix": fix}
            with suppress(MachineError):  # that stdout cannot be written may be the error
                self._emit("error", content)

    def _say(self, text: str, before: str = "") -> None:
        self.err.write(f"{before}{printable(text)}\n")

    def _styled(self, text: str, colour: str) -> str:
        """Coloured on a terminal that has colours, unless NO_COLOR is set."""
        plain = not self.err.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return text if plain else click.style(text, fg=colour)


def _line(event: Event) -> str:
    """`export       62 %     3.1 s  message`"""
    share = "     " if event.fraction is None else f"{event.fraction:4.0%}".rjust(5)
    message = " ".join(event.message.split())
    return f"{event.stage.ljust(STAGE)} {share} {event.seconds:7.1f} s  {message}".rstrip()


def _columns(output: Output) -> int:
    try:
        return os.get_terminal_size(output.fileno()).columns or USUAL_COLUMNS
    except OSError:
        return USUAL_COLUMNS


def _indented(text: str) -> str:
    """Continuation lines further in than `fix:`, so that no name with a line break passes for one."""
    return re.sub(r"\n(?! {4})", "\n    ", text)


def _finite(value: Any) -> Any:
    """`value` with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
