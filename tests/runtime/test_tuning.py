"""The call size is the one this machine answers fastest."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep
from unittest.mock import Mock

import numpy as np
import pytest

from chronos_export.artifact.reading import Artifact
from chronos_export.runtime import tuning
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.schedule import OVERHEAD, OVERHEAD_SHARED
from chronos_export.runtime.session import Floats, Ints
from chronos_export.runtime.tuning import STEPS, TOKENS, tune

PATCH = 16
TOKENS_A_ROW = STEPS // PATCH + 1 + 96 // PATCH


class Machine:
    """A session on a clock of its own: so much a call, so much a row, and more for rows beyond its cache."""

    def __init__(self, call: float, row: float, cache: int) -> None:
        self.call, self.row, self.cache = call, row, cache
        self.clock = 0.0

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        raise AssertionError("single rows are what is timed")

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        rows = len(context)
        self.clock += self.call + self.row * rows + self.row * max(0, rows - self.cache)
        return future_covariates


@pytest.mark.parametrize(
    ("machine", "best"),
    [
        (Machine(call=0.0, row=2e-3, cache=100), TOKENS[0]),
        (Machine(call=0.2, row=1e-3, cache=100), TOKENS[-1]),
        (Machine(call=0.02, row=4e-3, cache=TOKENS[1] // TOKENS_A_ROW), TOKENS[1]),
    ],
    ids=["no cost a call", "costly calls", "a small cache"],
)
def test_finds_the_best_size(machine: Machine, best: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "perf_counter", lambda: machine.clock)
    assert tune(machine, PATCH, 8192).tokens == best


def test_a_short_model_is_timed_within_its_context() -> None:
    seen: list[int] = []

    class Short(Machine):
        def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
            seen.append(context.shape[1])
            return future_covariates

    tune(Short(0, 0, 1), PATCH, 512)
    assert set(seen) == {512}


@pytest.mark.parametrize(("threads", "single"), [(1, False), (2, True)])
def test_sizes_are_timed_on_as_many_threads_as_calls_will_have(
    threads: int, single: bool, artifact_of: Callable[[str], Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = OrtSession(artifact_of("toy"), threads=threads)
    asked: list[tuple[object, int]] = []

    def run_univariate(self: object, context: Floats, future_covariates: Floats) -> Floats:
        asked.append((self, len(context)))
        return future_covariates

    for kind in (OrtSession, type(session.single_threaded)):
        monkeypatch.setattr(kind, "run_univariate", run_univariate)
    tune(session, PATCH, 64)
    by_one, by_all = ({rows for who, rows in asked if who is s} for s in (session.single_threaded, session))
    assert len(by_one if single else by_all) > 1
    assert len(by_all if single else by_one) == single  # what sharing costs, at the size chosen


@pytest.mark.parametrize(("cost", "least", "most"), [(1.0, 0.9, 1.15), (1.5, 0.6, 0.8), (9.0, 0.5, 0.5)])
def test_measures_what_sharing_a_call_costs(cost: float, least: float, most: float) -> None:
    """On a machine whose two threads do 10 ms of work in 5 ms times `cost` when they share it."""

    class Threads:
        workers = 2

        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        @property
        def single_threaded(self) -> Threads:
            return Threads(10e-3)

        def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
            raise AssertionError("single rows are what is timed")

        def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
            sleep(self.seconds)
            return future_covariates

    assert least <= tune(Threads(cost * 5e-3), PATCH, 8192).shared <= most


def test_the_schedule_expects_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls that take as long side by side as one after the other are expected to."""
    monkeypatch.setattr(tuning, "_seconds", lambda run: 1.0)
    session, nothing = Mock(spec=["workers"], workers=2), np.zeros((1, 1), np.float32)
    shared = tuning._shared(session, (nothing, nothing), tokens=160)
    beside, alone = OVERHEAD + 160, 2 * (OVERHEAD_SHARED + 160) / (2 * shared)  # as in `schedule._assign`
    assert beside == pytest.approx(alone)
