"""A section of `scripts/gpu_check` in its process: whatever becomes of it, what it found is kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.gpu_check.apart import OUT_OF_TIME, run_apart, write_records

FIRST_TWO = """
import os, subprocess, sys, time
from pathlib import Path
from scripts.gpu_check.apart import write_records
def section():
    yield {"check": "a", "good": True}
    yield {"check": "b", "good": False}
    THEN
write_records(section(), Path(sys.argv[1]))
"""


def run(then: str, limit_s: float = 60) -> dict[str, Any]:
    return run_apart([sys.executable, "-c", FIRST_TWO.replace("THEN", then)], limit_s)


def checks(result: dict[str, Any]) -> list[str]:
    return [record["check"] for record in result["records"]]


def test_a_section_that_ends() -> None:
    result = run('yield {"check": "c", "good": None}')
    assert checks(result) == ["a", "b", "c"]
    assert "why" not in result


@pytest.mark.parametrize(
    ("then", "why", "failed"),
    [
        ("raise ValueError('no')", "ValueError: no", True),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'", False),
        ("os.kill(os.getpid(), 11)", "it ended with status -11", True),
        ("os._exit(7)", "it ended with status 7", True),
        ("time.sleep(600)", "stopped after 6 s", False),
    ],
)
def test_a_section_that_does_not(then: str, why: str, failed: bool) -> None:
    result = run(then, 6)
    assert checks(result) == ["a", "b"]
    assert (result["why"], result["failed"]) == (why, failed)


def test_what_a_section_started_ends_with_it(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import pathlib, time\nwhile True: pathlib.Path({str(alive)!r}).touch(); time.sleep(0.05)"
    run(f"subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(600)", 8)
    assert alive.exists()
    alive.unlink()
    time.sleep(0.5)
    assert not alive.exists()


def test_no_time_left() -> None:
    assert run("", 0.1) == {"records": [], "seconds": 0.0, "why": OUT_OF_TIME}


def test_a_record_is_there_before_the_next_is_made(tmp_path: Path) -> None:
    file = tmp_path / "records"

    def section() -> Iterator[dict[str, Any]]:
        for number in range(3):
            assert len(file.read_text().splitlines()) == number
            yield {"check": number, "good": True}

    write_records(section(), file)
    assert len(file.read_text().splitlines()) == 3
