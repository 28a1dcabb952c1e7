"""Which calls go side by side: nothing lost, and never slower than the plain ways to do it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_export.runtime import schedule as scheduling
from chronos_export.runtime.batching import Call, Ints, Limits, plan
from chronos_export.runtime.schedule import FEW, OVERHEAD, OVERHEAD_SHARED, Schedule, schedule

PATCH, HORIZON, SHARED = 16, 96, 0.9

batches = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 2048)), min_size=1, max_size=60)
token_limits = st.integers(1, 3000)
threads = st.integers(1, 9)


def columns(batch: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    ids, lengths = (np.array(column, dtype=np.int64) for column in zip(*batch, strict=True))
    return ids, lengths


def scheduled(batch: list[tuple[int, int]], tokens: int, workers: int) -> Schedule:
    return schedule(*columns(batch), HORIZON, PATCH, Limits(tokens=tokens, shared=SHARED), workers)


def groups(sizes: list[int]) -> list[tuple[int, int]]:
    """Rows of 97 tokens in groups of these sizes."""
    return [(group, 1440) for group, size in enumerate(sizes) for _ in range(size)]


def finished(alone: list[Call], beside: list[Call], workers: int) -> float:
    """A clock: whichever thread is free takes the next of `beside`, then all of them each call of `alone`."""
    free = [0.0] * workers
    for call in beside:
        worker = free.index(min(free))
        free[worker] += OVERHEAD + call.tokens
    return max(free) + sum((OVERHEAD_SHARED + call.tokens) / (workers * SHARED) for call in alone)


@settings(max_examples=200)
@given(batches, token_limits, threads)
def test_every_row_is_answered_once_and_no_group_is_cut(
    batch: list[tuple[int, int]], tokens: int, workers: int
) -> None:
    ids, lengths = columns(batch)
    found = scheduled(batch, tokens, workers)
    calls = [*found.alone, *found.beside]
    assert sorted(np.concatenate([call.rows for call in calls])) == list(range(len(batch)))
    for call in calls:
        assert len(call.rows) == np.isin(ids, ids[call.rows]).sum()
        assert call.context_length == lengths[call.rows].max()
        assert call.tokens <= tokens or len(set(ids[call.rows])) == 1


@settings(max_examples=200)
@given(batches, token_limits, st.integers(2, 9))
def test_no_slower_than_the_plain_plan_in_either_way(
    batch: list[tuple[int, int]], tokens: int, workers: int
) -> None:
    found = scheduled(batch, tokens, workers)
    assert found.duration == pytest.approx(finished(found.alone, found.beside, workers))
    plain = plan(*columns(batch), HORIZON, PATCH, Limits(tokens=tokens))
    largest_first = sorted(plain, key=lambda call: -call.tokens)
    assert found.duration <= finished([], largest_first, workers) + 1e-6
    if workers > 1:
        assert found.duration <= finished(plain, [], workers) + 1e-6


@given(batches, token_limits)
def test_one_worker_answers_the_plan_as_it_is(batch: list[tuple[int, int]], tokens: int) -> None:
    found = scheduled(batch, tokens, 1)
    plain = plan(*columns(batch), HORIZON, PATCH, Limits(tokens=tokens))
    assert [call.rows.tolist() for call in found.alone] == [call.rows.tolist() for call in plain]
    assert found.beside == []


def rows_of(calls: list[Call]) -> list[int]:
    return [len(call.rows) for call in calls]


def test_calls_are_made_smaller_so_that_no_thread_is_idle() -> None:
    """20 rows at 8 a call would keep one of two threads busy with 12 of them."""
    found = scheduled(groups([1] * 20), 800, 2)
    assert (rows_of(found.alone), rows_of(found.beside)) == ([], [5, 5, 5, 5])


def test_what_has_no_company_is_answered_by_all_threads() -> None:
    assert rows_of(scheduled(groups([1]), 800, 2).alone) == [1]
    assert rows_of(scheduled(groups([20]), 800, 2).alone) == [20]
    odd = scheduled(groups([20] * 3), 800, 2)
    assert (rows_of(odd.alone), rows_of(odd.beside)) == ([20], [20, 20])


def test_where_sharing_costs_nothing_large_calls_are_shared() -> None:
    """Side by side, each would have half of the cache."""
    batch = columns(groups([20] * 5))
    found = schedule(*batch, HORIZON, PATCH, Limits(tokens=800, shared=1.03), 2)
    assert (rows_of(found.alone), rows_of(found.beside)) == ([20] * 5, [])


def test_a_call_that_others_would_wait_for_is_shared() -> None:
    found = scheduled(groups([100, *[1] * 20]), 800, 2)
    assert rows_of(found.alone) == [100]
    assert sum(rows_of(found.beside)) == 20


def test_many_calls_are_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(*args: object) -> list[Call]:
        asked.append(args)
        return plan(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(scheduling, "plan", counted)
    scheduled(groups([1] * 8 * 2 * FEW), 800, 2)
    assert len(asked) == 1
