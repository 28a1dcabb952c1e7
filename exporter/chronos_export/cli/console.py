"""What a command says: a live line or plain lines on stderr and the result on stdout, or JSON events.

With `--json` stdout carries one JSON object a line, each with an `event`: `stage`, `result` or `error`.
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any, TextIO

import click

from chronos_export import interruption
from chronos_export.errors import ChronosExportError
from chronos_export.progress import Event


@dataclass
class Console:
    """One command's output.

    Args:
        as_json: Events and the result as JSON on stdout, errors there and on stderr.
        is_quiet: No progress.
        is_verbose: Tracebacks, and what the libraries have to say.
    """

    as_json: bool = False
    is_quiet: bool = False
    is_verbose: bool = False

    def __post_init__(self) -> None:
        self._lock = Lock()  # downloads report from threads of their own
        self._has_live_line = False
        self._stdout: TextIO | None = None  # where results go while libraries have file descriptor 1

    @property
    def is_live(self) -> bool:
        """Whether progress may rewrite its line."""
        return sys.stderr.isatty() and not (self.as_json or self.is_quiet)

    @contextmanager
    def libraries(self) -> Iterator[None]:
        """Keep what libraries print off stdout, which is ours: to stderr with --verbose, else nowhere."""
        sys.stdout.flush()
        theirs = os.dup(2) if self.is_verbose else os.open(os.devnull, os.O_WRONLY)
        ours = os.dup(1)
        os.dup2(theirs, 1)
        self._stdout = os.fdopen(ours, "w", buffering=1)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(ours, 1)
            self._stdout.close()
            self._stdout = None
            os.close(theirs)

    def report(self, event: Event) -> None:
        """Show progress; the `Report` given to every long step. Raises an interruption that was swallowed."""
        if interruption.exit_code() is not None:
            raise KeyboardInterrupt
        with self._lock:
            if self.as_json:
                self._emit("stage", asdict(event))
            elif event.fraction is None and event.message:
                self.note(f"warning: {event.message}")
            elif self.is_live:
                self._rewrite(_line(event), is_last=event.fraction == 1.0)
            elif not self.is_quiet and event.fraction == 1.0:
                click.echo(_line(event), err=True)

    def result(self, content: dict[str, Any], text: str) -> None:
        """Say how it ended: `content` with --json, `text` without."""
        if self.as_json:
            self._emit("result", content)
        else:
            self._print(text)

    def error(self, error: BaseException, exit_code: int) -> None:
        """Say what went wrong, once and readably."""
        self._end_live_line()
        known = error if isinstance(error, ChronosExportError) else None
        said = known.summary if known else f"{type(error).__name__}: {_first_line(error)}"
        if self.as_json:
            details = {"allowed": known.allowed, "fix": known.fix} if known else {}
            self._emit("error", {"exit_code": exit_code, "summary": said, **details})
        if self.is_verbose:
            click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
        hint = "" if known or self.is_verbose else "\n  fix: run it with --verbose and report what it shows"
        click.echo(f"{_style('error:', 'red')} {str(known) if known else said + hint}", err=True)

    def note(self, text: str) -> None:
        """A line for the reader's eye that is no result."""
        self._end_live_line()
        if not self.is_quiet:
            click.echo(text, err=True)

    def _emit(self, kind: str, content: dict[str, Any]) -> None:
        self._print(json.dumps(_finite({"event": kind, **content})))

    def _print(self, text: str) -> None:
        """To stdout, or to nobody once whoever read it has seen enough."""
        stream = self._stdout or sys.stdout
        try:
            click.echo(text, file=stream)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

    def _rewrite(self, line: str, *, is_last: bool) -> None:
        click.echo(f"\r\x1b[2K{line}", err=True, nl=is_last)
        self._has_live_line = not is_last

    def _end_live_line(self) -> None:
        if self._has_live_line:
            click.echo(err=True)
            self._has_live_line = False


def _line(event: Event) -> str:
    """`export       62 %     3.1 s  message`"""
    share = "     " if event.fraction is None else f"{event.fraction:4.0%}".rjust(5)
    name = _style(event.stage.ljust(12), "green" if event.fraction == 1.0 else "cyan")
    return f"{name} {share} {event.seconds:7.1f} s  {event.message}".rstrip()


def _style(text: str, colour: str) -> str:
    """Coloured on a terminal, unless NO_COLOR is set."""
    return click.style(text, fg=colour) if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else text


def _finite(value: Any) -> Any:
    """`value` with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
