"""A section in its process: whatever becomes of it, what it found is kept, and what it started ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from scripts.benchmarks.apart import run_apart
from scripts.benchmarks.records import CutOff, Record


def section(then: str, file: str = "") -> Iterator[Record]:
    """Two records, and what comes then."""
    yield CutOff("a", "")
    yield CutOff("b", "")
    if then == "raise":
        raise ValueError("no")
    if then == "crash":
        os.kill(os.getpid(), 11)
    if then == "exit":
        os._exit(7)
    if then == "spawn":
        touching = f"import pathlib, time\nwhile True: pathlib.Path({file!r}).touch(); time.sleep(0.05)"
        subprocess.Popen([sys.executable, "-c", touching])
    if then in ("hang", "spawn"):
        time.sleep(600)


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("end", ""),
        ("raise", "ValueError: no"),
        ("crash", "it ended with status -11"),
        ("exit", "it ended with status 7"),
    ],
)
def test_what_a_section_found_is_kept(then: str, why: str) -> None:
    found: list[Record] = []
    assert run_apart(partial(section, then), found.append, None) == why
    assert found == [CutOff("a", ""), CutOff("b", "")]


def test_a_section_that_hangs_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    alive, found = tmp_path / "alive", list[Record]()
    assert run_apart(partial(section, "spawn", str(alive)), found.append, 20) == "stopped after 20 s"
    assert len(found) == 2
    assert alive.exists()
    alive.unlink()
    time.sleep(0.5)
    assert not alive.exists()
