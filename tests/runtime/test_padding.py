"""Filling a profile: pad rows change no forecast, and batches are cut so that few of them are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chronos_export.checkpoint.loading import Checkpoint, load_checkpoint, load_reference
from chronos_export.errors import UsageError
from chronos_export.runtime import padding
from chronos_export.runtime.batching import Limits, plan
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.padding import pad_rows, smallest_profile, unused_ids
from chronos_export.runtime.session import Floats, Folder, Ints
from chronos_export.validation.comparison import Verdict, validate
from chronos_export.validation.proof import cases_of

LOWEST, HIGHEST = -(2**63), 2**63 - 1
ids = st.lists(
    st.one_of(st.integers(LOWEST, HIGHEST), st.integers(-2, 12), st.sampled_from([LOWEST, HIGHEST])),
    min_size=1,
    max_size=30,
)


class PaddedSession:
    """onnxruntime behind fixed row counts, as an engine is: the only difference is the padding."""

    profiles = (40, 7, 300)

    def __init__(self, session: OrtSession) -> None:
        self.session = session

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        rows = self.profiles[smallest_profile(len(group_ids), self.profiles)]
        padded = padding.pad_rows(context, group_ids, future_covariates, rows)
        assert [len(x) for x in padded] == [rows] * 3
        return self.session.run(*padded)[: len(group_ids)]

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        return self.run(context, np.arange(len(context)), future_covariates)


@pytest.fixture(scope="module")
def checkpoint(small: Path) -> Checkpoint:
    return load_checkpoint(str(small))


@pytest.fixture(scope="module")
def padded(small_graphs: Path) -> PaddedSession:
    return PaddedSession(OrtSession(Folder(small_graphs), threads=1))


def prove(checkpoint: Checkpoint, session: PaddedSession, rows: int, horizon: int = 64) -> Verdict:
    """The cases of at most this many rows and this horizon, against upstream."""
    cases = [
        case
        for case in cases_of(checkpoint.config)
        if len(case.group_ids) <= rows and case.future_covariates.shape[1] <= horizon
        if case.context.shape[1] <= 512
    ]
    assert len(cases) > 15
    return validate(load_reference(checkpoint).model, {"padded": session}, cases)


def test_padding_changes_no_forecast(checkpoint: Checkpoint, padded: PaddedSession) -> None:
    assert prove(checkpoint, padded, 40).passed


def in_the_first_group(group_ids: Ints, count: int) -> Ints:
    return group_ids[:1].repeat(count)


def in_a_group_of_zero(group_ids: Ints, count: int) -> Ints:
    return np.zeros(count, np.int64)


@pytest.mark.parametrize("wrong", [in_the_first_group, in_a_group_of_zero])
def test_pad_rows_that_can_be_seen_are_caught(
    checkpoint: Checkpoint,
    padded: PaddedSession,
    monkeypatch: pytest.MonkeyPatch,
    wrong: Callable[[Ints, int], Ints],
) -> None:
    monkeypatch.setattr(padding, "unused_ids", wrong)
    assert not prove(checkpoint, padded, 6, horizon=32).passed


@given(ids, st.integers(0, 40))
@example([LOWEST, HIGHEST, -1, 0, 1], 5)
@example(list(range(30)), 40)
def test_new_ids_are_new(given_ids: list[int], count: int) -> None:
    new = unused_ids(np.array(given_ids), count).tolist()
    assert len(set(new)) == count == len(new)
    assert not set(new) & set(given_ids)


@given(ids, st.integers(0, 40))
def test_the_given_rows_come_first_and_the_others_are_empty(given_ids: list[int], added: int) -> None:
    rows = len(given_ids)
    random = np.random.default_rng(0)
    context, future = (random.standard_normal((rows, steps), dtype=np.float32) for steps in (5, 3))
    inputs = (context, np.array(given_ids), future)
    for before, after in zip(inputs, pad_rows(*inputs, rows + added), strict=True):
        assert after.dtype == before.dtype
        assert len(after) == rows + added
        np.testing.assert_array_equal(after[:rows], before)
        if before.dtype == np.float32:
            assert np.isnan(after[rows:]).all()


@given(st.integers(1, 50), st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True))
def test_the_smallest_profile_that_holds_the_rows(rows: int, profiles: list[int]) -> None:
    if rows > max(profiles):
        with pytest.raises(UsageError, match=f"{rows} rows in one call") as raised:
            smallest_profile(rows, profiles)
        assert f"--batch {','.join(map(str, [*profiles, rows]))} " in raised.value.fix
        return
    chosen = profiles[smallest_profile(rows, profiles)]
    assert chosen >= rows
    assert not [size for size in profiles if rows <= size < chosen]


# ---- what a batch is cut into, so that profiles hold it ----


def cut(sizes: list[int], profiles: tuple[int, ...]) -> list[list[int]]:
    """The ids in each call, for groups of these sizes whose rows are shuffled."""
    group_ids = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    lengths = np.full(len(group_ids), 64, dtype=np.int64)
    limits = Limits(tokens=2**31, padding=1.0, profiles=profiles)
    calls = plan(group_ids, lengths, 16, 16, limits)
    assert sorted(np.concatenate([call.rows for call in calls])) == list(range(len(group_ids)))
    return [group_ids[call.rows].tolist() for call in calls]


def test_107_rows_for_a_batch_of_100_are_packed_by_whole_groups() -> None:
    """Upstream's batches exceed `batch_size` by their last group."""
    calls = cut([20] * 5 + [7], (100,))
    assert len(calls) == 2
    assert max(len(call) for call in calls) <= 100
    assert not set(calls[0]) & set(calls[1])


def test_the_profiles_that_waste_least() -> None:
    assert [len(call) for call in cut([20] * 10, (100, 200, 300))] in ([100, 100], [200])
    assert [len(call) for call in cut([20] * 8, (100, 160))] == [160]
    assert [len(call) for call in cut([1] * 30, (10, 100))] == [10, 10, 10]


def test_one_group_larger_than_every_profile_names_the_batch_it_needs() -> None:
    with pytest.raises(UsageError, match="a group of 250 rows is larger than every engine profile") as raised:
        cut([20, 250], (100, 200))
    assert raised.value.allowed == "groups of at most 200 rows"
    assert "--batch 250 " in raised.value.fix


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=20),
    st.sets(st.integers(12, 60), min_size=1, max_size=4),
)
def test_every_call_fits_a_profile_and_no_group_is_cut(sizes: list[int], profiles: set[int]) -> None:
    calls = cut(sizes, tuple(profiles))
    assert all(len(call) <= max(profiles) for call in calls)
    assert sum(len(set(call)) for call in calls) == len(sizes)
