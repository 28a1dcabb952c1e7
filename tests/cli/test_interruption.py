"""An interruption that a library swallows still ends the command with its code, and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
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
