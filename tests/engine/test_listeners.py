"""What TensorRT calls while it builds: the logger, and the progress monitor, from several threads at once."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from chronos_export.engine.listeners import make_logger, make_monitor


class Base:
    """An ILogger or IProgressMonitor of TensorRT."""

    ERROR = 1


TRT = SimpleNamespace(ILogger=Base, IProgressMonitor=Base)


def test_calls_from_two_threads_take_turns() -> None:
    """Also where an event is written: lines must not mix. The build is told to go on by both."""
    waited: list[bool] = []
    answers: list[bool] = []

    def other() -> None:
        monitor.phase_start("timing", "build", 2)
        answers.append(monitor.step_complete("timing", 0))

    def say(progress: tuple[str, float]) -> None:
        if not waited:
            thread.start()
            thread.join(0.1)
            waited.append(thread.is_alive())

    thread = threading.Thread(target=other)
    monitor = make_monitor(TRT, say)
    monitor.phase_start("build", None, 4)
    answers.append(monitor.step_complete("build", 0))
    thread.join(10)
    assert (waited, answers) == ([True], [True, True])


def test_a_step_of_an_unknown_phase_stops_no_build() -> None:
    """An exception would: TensorRT takes it as the answer False."""
    monitor = make_monitor(TRT, lambda progress: None)
    assert monitor.step_complete("never started", 0)
    monitor.phase_start("build", None, 2)
    monitor.phase_finish("build")
    assert monitor.step_complete("build", 1)


def test_errors_are_kept_and_outlive_a_crash(capsys: pytest.CaptureFixture[str]) -> None:
    """What the logger keeps is lost when TensorRT ends the process; what is on stderr is not."""
    logger = make_logger(TRT)
    for severity, message in ((0, "internal"), (1, "no driver"), (1, "no driver"), (2, "a warning")):
        logger.log(severity, message)
    assert logger.errors() == "internal; no driver"
    assert capsys.readouterr().err == "internal\nno driver\nno driver\n"
