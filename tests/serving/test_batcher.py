"""Requests that share a batch: each gets the answer it would get alone, none is lost, none gets another's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_export.artifact.reading import Artifact
from chronos_export.errors import UsageError
from chronos_export.runtime.batched import BatchedSession
from chronos_export.runtime.opening import open_session
from chronos_export.serving.batcher import Batcher, OneRequest, Served, distinct_ids
from chronos_export.serving.limits import BusyError, DeadlineError, ServingLimits, TooLargeError
from chronos_export.validation.cases import Case
from chronos_export.validation.exact import in_float64
from chronos_export.validation.runners import upstream_forecast
from tests.helpers.checkpoints import make_model
from tests.helpers.upstream import assert_as_upstream

PATCH = 16
Ask = tuple[np.ndarray, np.ndarray | None, int, np.ndarray | None]


@dataclass
class Sums:
    """Rows whose forecast is a fingerprint of their whole group: its sums, sizes, futures and horizon.

    Attributes:
        gate: Closed, it keeps a batch waiting, so that requests pile up behind it.
        poison: A value that makes the whole batch fail.
    """

    gate: threading.Event = field(default_factory=threading.Event)
    poison: float = 666.0
    batches: list[int] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)

    def forecast(
        self,
        context: np.ndarray,
        group_ids: np.ndarray | None,
        output_patches: int,
        future_covariates: np.ndarray | None,
    ) -> np.ndarray:
        self.begun.set()
        assert self.gate.wait(30)
        self.batches.append(len(context))
        if (context == self.poison).any():
            raise UsageError("poisoned")
        assert group_ids is not None
        out = np.zeros((len(context), 1, output_patches * PATCH), np.float32)
        ahead = (
            np.nan_to_num(future_covariates) if future_covariates is not None else np.zeros((len(context), 1))
        )
        for row, group in enumerate(group_ids):
            mine = group_ids == group
            out[row, 0, 0] = np.nansum(context[mine])
            out[row, 0, 1] = mine.sum()
            out[row, 0, 2] = ahead[mine].sum()
            out[row, 0, 3] = np.nansum(context[row])
            out[row, 0, 4] = output_patches
        return out


@pytest.fixture
def rows() -> Sums:
    return Sums()


@pytest.fixture
def batcher(rows: Sums) -> Iterator[Batcher]:
    found = Batcher(rows, PATCH)
    yield found
    rows.gate.set()
    found.close()


def ask(rng: np.random.Generator, patches: int | None = None) -> Ask:
    """A request with few, colliding ids, or none, and perhaps covariates."""
    count, length = int(rng.integers(1, 6)), int(rng.integers(1, 50))
    context = rng.integers(0, 9, (count, length)).astype(np.float32)
    context[rng.random(context.shape) < 0.2] = np.nan
    ids = rng.integers(-1, 2, count) if rng.random() < 0.8 else None
    patches = patches or int(rng.integers(1, 4))
    future = None
    if rng.random() < 0.5:
        future = rng.integers(0, 9, (count, int(rng.integers(1, patches * PATCH + 1)))).astype(np.float32)
    return context, ids, patches, future


def alone(request: Ask) -> np.ndarray:
    rows = Sums()
    rows.gate.set()
    context, ids, patches, future = request
    return rows.forecast(context, np.arange(len(context)) if ids is None else ids, patches, future)


def pile_up(batcher: Batcher, rows: Sums, requests: list[Ask], clients: int = 16) -> list[Any]:
    """All requests at once, behind a first one that is kept waiting; answers or errors."""

    def client(request: Ask) -> Any:
        try:
            return batcher.forecast(*request)
        except Exception as error:
            return error

    with ThreadPoolExecutor(clients + 1) as pool:
        first = pool.submit(client, ask(np.random.default_rng(0), 9))
        assert rows.begun.wait(30)
        answers = [pool.submit(client, request) for request in requests]
        while batcher.queued < min(len(requests), clients):
            threading.Event().wait(0.001)
        rows.gate.set()
        first.result()
        return [answer.result() for answer in answers]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_each_answer_is_the_lone_one(seed: int, count: int) -> None:
    rng, rows = np.random.default_rng(seed), Sums()
    requests = [ask(rng) for _ in range(count)]
    batcher = Batcher(rows, PATCH)
    answers = pile_up(batcher, rows, requests)
    batcher.close()
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer, alone(request))


def test_what_waits_is_merged_if_its_horizon_is_equal(batcher: Batcher, rows: Sums) -> None:
    rng = np.random.default_rng(1)
    requests = [ask(rng, patches) for patches in (1, 2, 1, 2, 1, 1)]
    pile_up(batcher, rows, requests)
    sizes = {patches: sum(len(r[0]) for r in requests if r[2] == patches) for patches in (1, 2)}
    assert sorted(rows.batches[1:]) == sorted(sizes.values())


def test_a_merged_batch_is_bounded_with_its_padding(rows: Sums) -> None:
    batcher = Batcher(rows, PATCH, ServingLimits(merged_steps=4 * (40 + PATCH)))
    long = np.ones((1, 40), np.float32), None, 1, None
    short = np.ones((1, 1), np.float32), None, 1, None
    pile_up(batcher, rows, [long, short, short, short, short, short])
    batcher.close()
    assert max(rows.batches[1:]) <= 4  # six rows of their own length would have fitted


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8), min_size=1, max_size=6))
def test_ids_are_equal_only_within_a_request(requests: list[list[int]]) -> None:
    ids = distinct_ids([np.array(request, dtype=np.int64) for request in requests])
    owners = [(number, value) for number, request in enumerate(requests) for value in request]
    for one, first in zip(ids, owners, strict=True):
        for other, second in zip(ids, owners, strict=True):
            assert (one == other) == (first == second)


def test_a_bad_request_fails_alone(batcher: Batcher, rows: Sums) -> None:
    rng = np.random.default_rng(2)
    good = [ask(rng, 1) for _ in range(6)]
    bad = (np.full((1, 3), rows.poison, np.float32), None, 1, None)
    *answers, error = pile_up(batcher, rows, [*good, bad])
    assert isinstance(error, UsageError)
    for request, answer in zip(good, answers, strict=True):
        np.testing.assert_array_equal(answer, alone(request))


def test_too_much_at_once_is_refused_with_numbers(batcher: Batcher, rows: Sums) -> None:
    rows.gate.set()
    limits = ServingLimits(rows=4, steps=200)
    small = Batcher(rows, PATCH, limits)
    with pytest.raises(TooLargeError, match="5 rows") as raised:
        small.forecast(np.zeros((5, 1), np.float32), None, 1, None)
    assert raised.value.allowed == "at most 4 rows"
    with pytest.raises(TooLargeError, match="216 time steps in 1 rows"):
        small.forecast(np.zeros((1, 200), np.float32), None, 1, None)
    small.close()


def test_a_full_queue_refuses_at_once(rows: Sums) -> None:
    batcher = Batcher(rows, PATCH, ServingLimits(queued_steps=2 * (4 + PATCH)))
    request: Ask = (np.ones((1, 4), np.float32), None, 1, None)
    answers = pile_up(batcher, rows, [request, request])
    assert not any(isinstance(answer, Exception) for answer in answers)
    rows.gate.clear()
    rows.begun.clear()
    with ThreadPoolExecutor(3) as pool:
        pool.submit(batcher.forecast, *request)
        assert rows.begun.wait(30)
        waiting = [pool.submit(batcher.forecast, *request) for _ in range(2)]
        while batcher.queued < 2:
            threading.Event().wait(0.001)
        with pytest.raises(BusyError, match="2 requests with 40 time steps already wait"):
            batcher.forecast(*request)
        rows.gate.set()
        for answer in waiting:
            answer.result()
    batcher.close()


def test_a_request_that_took_too_long_is_dropped(rows: Sums) -> None:
    batcher = Batcher(rows, PATCH, ServingLimits(seconds=0.2))
    request: Ask = (np.ones((1, 4), np.float32), None, 1, None)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.forecast, *request)
        assert rows.begun.wait(30)
        second = pool.submit(batcher.forecast, *request)
        for answer in (first, second):
            with pytest.raises(DeadlineError, match=r"not answered within 0\.2 s"):
                answer.result()
        rows.gate.set()
    batcher.close()
    assert rows.batches == [1]  # the second was never computed


def test_a_request_that_is_given_up_is_dropped(rows: Sums, batcher: Batcher) -> None:
    request = OneRequest(batcher)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.forecast, *ask(np.random.default_rng(0)))
        assert rows.begun.wait(30)
        waiting = pool.submit(request.forecast, *ask(np.random.default_rng(1)))
        while not batcher.queued:
            threading.Event().wait(0.001)
        request.give_up()
        with pytest.raises(DeadlineError):
            waiting.result(30)
        rows.gate.set()
        first.result(30)
    with pytest.raises(DeadlineError, match="has left"):
        request.forecast(*ask(np.random.default_rng(1)))
    batcher.close()
    assert len(rows.batches) == 1


def test_the_time_limit_is_of_a_request_not_of_each_of_its_batches(rows: Sums) -> None:
    batcher = Batcher(rows, PATCH, ServingLimits(seconds=0.3))
    rows.gate.set()
    request = OneRequest(batcher)
    request.forecast(*ask(np.random.default_rng(0)))
    threading.Event().wait(0.35)
    with pytest.raises(DeadlineError, match=r"within 0\.3 s"):
        request.forecast(*ask(np.random.default_rng(1)))
    batcher.close()


def test_closing_answers_what_waits_and_takes_nothing_more(rows: Sums) -> None:
    batcher = Batcher(rows, PATCH)
    request: Ask = (np.ones((2, 4), np.float32), None, 1, None)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(batcher.forecast, *request) for _ in range(3)]
        assert rows.begun.wait(30)
        closing = pool.submit(batcher.close)
        while not batcher._closed:
            threading.Event().wait(0.001)
        with pytest.raises(BusyError, match="about to stop"):
            batcher.forecast(*request)
        rows.gate.set()
        closing.result(timeout=30)
        for answer in answers:
            np.testing.assert_array_equal(answer.result(), alone(request))


def test_batches_are_observed(rows: Sums) -> None:
    seen: list[Served] = []
    batcher = Batcher(rows, PATCH, observe=seen.append)
    pile_up(batcher, rows, [ask(np.random.default_rng(n), 1) for n in range(5)])
    batcher.close()
    assert sum(batch.requests for batch in seen) == 6
    assert [batch.rows for batch in seen] == rows.batches
    assert all(len(batch.waited) == batch.requests and batch.failed == 0 for batch in seen)


def test_a_real_session_answers_as_upstream(artifact_of: Callable[[str], Artifact]) -> None:
    """Another batch is cut into other calls, whose sums run in another order: upstream's noise is allowed."""
    artifact, upstream = artifact_of("toy"), make_model("toy")
    opened = open_session(artifact, device="cpu", threads=1)
    config = upstream.chronos_config
    session = BatchedSession(
        opened.session,
        opened.limits,
        patch=PATCH,
        context_length=config.context_length,
        quantiles=len(config.quantiles),
    )
    rng = np.random.default_rng(3)
    requests = [ask(rng) for _ in range(40)]
    batcher = Batcher(session, PATCH)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda request: batcher.forecast(*request), requests))
    batcher.close()
    exact = in_float64(upstream)
    for (context, ids, patches, future), answer in zip(requests, answers, strict=True):
        known = np.full((len(context), patches * PATCH), np.nan, np.float32)
        if future is not None:
            known[:, : future.shape[1]] = future
        case = Case("", context, np.arange(len(context)) if ids is None else ids, known)
        near = upstream_forecast(upstream, case, torch.float32)
        assert_as_upstream(list(answer), list(near), list(upstream_forecast(exact, case, torch.float64)))
