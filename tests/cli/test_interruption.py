"""Whenever a signal comes, and however often: its code, nothing left behind, nothing said that is not so."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.published import generation_of

# Polygraphy looks dtypes up under bare `except`s: a Ctrl-C there turns into what goes wrong next, or nothing.
SWALLOWED = """
import os, signal, sys
from chronos_export.exporting import export as exporting
from chronos_export.cli import main as cli

def swallow(*args, **kwargs):
    try:
        os.kill(os.getpid(), signal.{signal})
    except BaseException:
        pass
    {then}

exporting.{victim} = swallow
cli.main(["--model", "demo", "-o", {output!r}, "--keep-failed"])
"""


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGHUP", 129)])
def test_one_that_turns_into_another_error(tmp_path: Path, signal: str, code: int) -> None:
    script = SWALLOWED.format(
        signal=signal, then="raise AttributeError", victim="prove", output=str(tmp_path / "made")
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "AttributeError" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_that_vanishes_ends_the_next_step(tmp_path: Path) -> None:
    script = SWALLOWED.format(signal="SIGINT", then="", victim="write_graphs", output=str(tmp_path / "made"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert list(tmp_path.iterdir()) == []


# ---- impatience ----


@pytest.mark.parametrize("stage", ["start", "load", "validate"])
def test_a_second_ctrl_c_ends_as_cleanly(toy: Path, tmp_path: Path, stage: str) -> None:
    """Twenty of them, too, at whatever moment of the cleaning up they come."""
    process = subprocess.Popen(
        [sys.executable, "-m", "chronos_export", "--model", toy, "--json", "-o", tmp_path / "made"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stderr
    while (event := json.loads(process.stdout.readline())).get("stage") != stage:
        assert event["event"] == "stage", event
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    events, errors = process.stdout.readlines(), process.stderr.read()
    assert process.wait(timeout=60) == 130, errors
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    last = json.loads(events[-1])
    assert (last["event"], last["exit_code"]) == ("error", 130)
    assert list(tmp_path.iterdir()) == []
    process.stdout.close()
    process.stderr.close()


# ---- at the moment of publishing ----

PUBLISH = """
import os, signal, sys
from pathlib import Path
from chronos_export import interruption
from chronos_export.artifact import publishing
from tests.helpers.published import make

interruption.watch()
target, when = Path(sys.argv[1]), sys.argv[2]
make(target, 1)
put = publishing.put_in_place

def stop():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass

def interrupted(folder, target):
    if when == "before": stop()
    put(folder, target)
    if when == "after": stop()

if when == "earlier":
    publishing._finish = lambda staging: stop()
publishing.put_in_place = interrupted
try:
    make(target, 2, overwrite=True)
except KeyboardInterrupt as error:
    print(getattr(error, "__notes__", []))
"""


@pytest.mark.parametrize("when", ["earlier", "before", "after"])
def test_what_is_said_of_publishing_is_so(tmp_path: Path, when: str) -> None:
    """Once the renaming has begun it is ended, the old files are removed, and nobody says otherwise."""
    command = [sys.executable, "-c", PUBLISH, str(tmp_path / "artifact"), when]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    is_new = when != "earlier"
    assert done.stdout == ("[]\n" if is_new else "['nothing was published']\n")
    assert generation_of(tmp_path / "artifact") == (2 if is_new else 1)
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


# ---- what it leaves in libraries ----

CUT_SHORT = """
import os, signal
from chronos_export.cli import main as cli
import chronos_export.exporting.request as request

class Runner:
    def __init__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000): pass
        self.is_active = False

    def __del__(self):
        self.is_active

request.prepare = lambda asked, report: Runner()
cli.main(["--model", "demo"])
"""


def test_a_constructor_that_is_cut_short_says_nothing() -> None:
    """Polygraphy's runners are such."""
    done = subprocess.run([sys.executable, "-c", CUT_SHORT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
