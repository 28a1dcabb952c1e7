"""What a reader sees of a command at work: on a terminal, and where there is none."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

TALK = """
import sys
from chronos_export.cli.console import Console
from chronos_export.progress import Event
console = Console(is_quiet="quiet" in sys.argv)
console.report(Event("export", None, 0.0))
console.report(Event("export", 0.5, 1.0, "half"))
console.report(Event("export", None, 1.5, "a cache was ignored"))
console.report(Event("export", 1.0, 2.0))
console.report(Event("validate", 0.25, 0.1))
console.error(ValueError("lost"), 4)
"""


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What `TALK` writes to a terminal."""
    terminal, end = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    subprocess.run(
        [sys.executable, "-c", TALK, *arguments], stderr=end, env={**plain, **environment}, check=True
    )
    os.close(end)
    with os.fdopen(terminal, "rb") as stream:
        return stream.read1(100_000).decode()


def test_live_progress_on_a_terminal() -> None:
    text = on_a_terminal()
    assert text.count("\r\x1b[2K") == 4
    assert "50%" in text
    assert "\x1b[32m" in text
    assert text.index("lost") > text.index("25%")
    assert text[text.index("25%") :].count("\n") >= 2  # the error starts on a line of its own
    assert "\r\nwarning: a cache was ignored\r\n" in text  # and so does a warning, which stays


def test_a_warning_is_seen_where_progress_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", TALK], capture_output=True, text=True)
    assert "warning: a cache was ignored" in done.stderr.splitlines()
    assert "half" not in done.stderr


def test_no_colours_no_progress_where_not_wanted() -> None:
    assert "\x1b[3" not in on_a_terminal(NO_COLOR="1")
    assert on_a_terminal("quiet").startswith("\x1b[31merror:")
