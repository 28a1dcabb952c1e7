"""Profiles of an engine: which one answers a call, and batches cut so that every call fits one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chronos_export.artifact.engine_info import Profile
from chronos_export.errors import UsageError
from chronos_export.runtime.batching import Call, Limits, plan
from chronos_export.runtime.profiles import profile_for

PATCH, AHEAD = 16, 16
CURVE = (Profile(100, 256), Profile(20, 1024))
profiles = st.lists(st.builds(Profile, st.integers(1, 60), st.integers(1, 400)), min_size=1, max_size=4)


@given(st.integers(1, 60), st.integers(1, 400), profiles)
def test_the_smallest_profile_that_admits_the_call(rows: int, context: int, some: list[Profile]) -> None:
    admitting = [profile for profile in some if profile.rows >= rows and profile.context >= context]
    if not admitting:
        with pytest.raises(UsageError, match=f"{rows} rows of {context} steps in one call"):
            profile_for(rows, context, some)
        return
    chosen = some[profile_for(rows, context, some)]
    assert chosen in admitting
    assert chosen.rows * chosen.context == min(profile.rows * profile.context for profile in admitting)


@pytest.mark.parametrize(
    ("rows", "context", "fix"),
    [(101, 10, "--batch 101 "), (10, 1025, "--context 1025 "), (21, 257, "--memory MORE ")],
)
def test_what_no_profile_admits_names_the_option_it_needs(rows: int, context: int, fix: str) -> None:
    with pytest.raises(UsageError) as raised:
        profile_for(rows, context, CURVE)
    assert raised.value.allowed == "up to 100 rows x 256 steps; up to 20 rows x 1024 steps"
    assert fix in raised.value.fix


# ---- what a batch is cut into ----


def cut(
    sizes: list[int], lengths: list[int], limits: Limits
) -> tuple[list[Call], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The calls for groups of these sizes and lengths, rows shuffled, and the rows' ids."""
    order = np.random.default_rng(0).permutation(sum(sizes))
    ids = np.repeat(np.arange(len(sizes)), sizes)[order]
    steps = np.repeat(np.array(lengths, dtype=np.int64), sizes)[order]
    calls = plan(ids, steps, AHEAD, PATCH, limits)
    assert sorted(np.concatenate([call.rows for call in calls])) == list(range(len(ids)))
    return calls, ids


def engine(*some: Profile, univariate: bool = False) -> Limits:
    return Limits(2**31, 1.0, some, some if univariate else None)


def test_107_rows_for_a_batch_of_100_are_packed_by_whole_groups() -> None:
    """Upstream's batches exceed `batch_size` by their last group."""
    calls, ids = cut([20] * 5 + [7], [64] * 6, engine(Profile(100, 512)))
    assert len(calls) == 2
    assert max(len(call.rows) for call in calls) <= 100
    assert not set(ids[calls[0].rows]) & set(ids[calls[1].rows])


def test_long_rows_and_many_rows_go_to_profiles_of_their_own() -> None:
    calls, _ = cut([10] * 14, [1000] * 4 + [200] * 10, engine(*CURVE))
    assert [(len(call.rows), call.context_length) for call in calls] == [(20, 1000)] * 2 + [(100, 200)]


def test_univariate_rows_have_calls_of_their_own_where_they_have_an_engine() -> None:
    calls, _ = cut([1] * 30 + [10], [64] * 31, engine(Profile(40, 512), univariate=True))
    assert [(len(call.rows), call.univariate) for call in calls] == [(30, True), (10, False)]
    calls, _ = cut([1] * 30 + [10], [64] * 31, engine(Profile(40, 512)))
    assert [(len(call.rows), call.univariate) for call in calls] == [(40, False)]


@pytest.mark.parametrize(("size", "length", "fix"), [(150, 64, "--batch 150 "), (50, 600, "--memory MORE ")])
def test_a_group_that_fits_no_profile_names_the_option_it_needs(size: int, length: int, fix: str) -> None:
    with pytest.raises(UsageError, match=f"{size} rows of one group with {length} steps") as raised:
        cut([20, size], [length, length], engine(*CURVE))
    assert fix in raised.value.fix


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 400)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(12, 60), st.integers(1, 400)), max_size=3),
    st.booleans(),
    st.floats(0, 1),
)
@example([(12, 400)], [], False, 0.0)
@example([(1, 241), (1, 250)], [(40, 245)], False, 1.0)  # of equal tokens, and one is beyond a profile
def test_every_call_fits_a_profile_and_no_group_is_cut(
    groups: list[tuple[int, int]], others: list[tuple[int, int]], univariate: bool, padding: float
) -> None:
    some = (Profile(12, 400), *(Profile(*other) for other in others))
    limits = Limits(2**31, padding, some, some if univariate else None)
    calls, ids = cut(*map(list, zip(*groups, strict=True)), limits)
    assert all(any(profile.admits(len(c.rows), c.context_length) for profile in some) for c in calls)
    assert sum(len(set(ids[call.rows])) for call in calls) == len(groups)
