"""Forecasting while the interpreter ends, and the threads that do it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chronos_export.artifact.reading import Artifact
from chronos_export.runtime.side_by_side import side_by_side

OPEN = {
    "load": "from chronos_export import load; model = load(sys.argv[1], threads=2)",
    "Forecaster": "from chronos_export import Forecaster; model = Forecaster(sys.argv[1], threads=2)",
}
ENDS = {
    "thread": """
def late():
    threading.main_thread().join()
    forecast()
threading.Thread(target=late).start()
""",
    "atexit": "import atexit; atexit.register(forecast)",
}
ROWS = 200  # enough for calls side by side
PROGRAM = """
import sys, threading
import numpy as np
{open}
series = list(np.random.default_rng(0).standard_normal(({rows}, 100), dtype=np.float32))
def forecast():
    print(len(model.predict([{{"target": one}} for one in series], prediction_length=20)))
{end}
"""


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("side", OPEN)
def test_forecasts_after_the_main_thread_has_ended(
    side: str, end: str, artifact_of: Callable[[str], Artifact]
) -> None:
    program = PROGRAM.format(open=OPEN[side], end=ENDS[end], rows=ROWS)
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(artifact_of("toy").path))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{ROWS}\n"), done.stderr


def test_the_caller_does_all_where_no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from Python 3.12 on, while the interpreter ends."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert side_by_side(lambda number: number**2, range(5), 3) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_results_come_in_order(workers: int) -> None:
    assert side_by_side(str, range(100), workers) == [str(number) for number in range(100)]
    assert side_by_side(str, [], workers) == []


def test_the_first_error_is_raised_when_no_thread_is_left() -> None:
    begun: list[int] = []

    def fail(number: int) -> None:
        begun.append(number)
        raise KeyError(number)

    before = threading.active_count()
    with pytest.raises(KeyError):
        side_by_side(fail, range(1000), 4)
    assert threading.active_count() == before
    assert len(begun) <= 4
