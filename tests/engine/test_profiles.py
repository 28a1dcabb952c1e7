"""Profiles that fit: as many rows as are asked for, contexts as long as memory allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronos_export.engine import profiles
from chronos_export.engine.profiles import Sizes, in_gib, memory_for, plan_profiles
from chronos_export.errors import UsageError
from chronos_export.exporting.request import parse_memory

GIB = 2**30
PUBLISHED = Sizes(768, 3072, 12, 16, 21, 4, 457 * 10**6)
NARROW = Sizes(768, 3072, 12, 16, 21, 2, 239 * 10**6)


@pytest.mark.parametrize(
    ("sizes", "rows", "steps", "ahead", "took"),
    [
        (NARROW, 2000, 1440, 96, 4153376768),
        (NARROW, 100, 8192, 1024, 1247994880),
        (PUBLISHED, 2000, 1440, 96, 8647641088),
        (PUBLISHED, 100, 8192, 1024, 4448736768),
        (Sizes(128, 512, 2, 16, 21, 4, 0), 1000, 64, 1024, 592816640),
    ],
)
def test_the_estimate_is_no_less_than_what_tensorrt_rtx_reserved(
    sizes: Sizes, rows: int, steps: int, ahead: int, took: int
) -> None:
    """Built with TensorRT-RTX 1.7.1."""
    assert took <= sizes.scratch(rows, steps, ahead) <= 1.3 * took


def test_profiles_lie_along_a_curve_of_equal_tokens() -> None:
    planned = plan_profiles([100, 2000], 8192, 96, NARROW, 8 * GIB)
    assert [profile.rows for profile in planned] == [100, 2000]
    small, large = planned
    assert small.context == 8192
    assert 1440 < large.context < 8192
    assert large.context % 16 == 0
    one_more_patch = NARROW.memory(2000, large.context + 16, 96)
    assert NARROW.memory(2000, large.context, 96) <= 8 * GIB < one_more_patch


def test_the_longest_context_gets_a_profile_where_no_row_count_reaches_it() -> None:
    many, longest = plan_profiles([2000], 8192, 1024, NARROW, 8 * GIB)
    assert (many.rows, longest.context) == (2000, 8192)
    assert many.context < 8192
    assert NARROW.memory(longest.rows, 8192, 1024) <= 8 * GIB < NARROW.memory(longest.rows + 2, 8192, 1024)


@pytest.mark.parametrize(
    ("batch", "memory", "told"),
    [([1], GIB * 9 // 10, "1 rows of 8192 steps"), ([10**6], 8 * GIB, "1000000 rows of 16 steps")],
)
def test_what_cannot_fit_names_the_memory_it_needs(batch: list[int], memory: int, told: str) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        plan_profiles(batch, 8192, 1024, PUBLISHED, memory)
    needed = parse_memory(raised.value.fix.split()[2])
    assert raised.value.fix.startswith("chronos-export --memory ")
    planned = plan_profiles(batch, 8192, 1024, PUBLISHED, needed)
    assert max(PUBLISHED.memory(profile.rows, profile.context, 1024) for profile in planned) <= needed


@given(
    st.sets(st.integers(1, 3000), min_size=1, max_size=4),
    st.integers(1, 8192),
    st.integers(1, 1024),
    st.integers(2 * GIB, 80 * GIB),
    st.sampled_from([PUBLISHED, NARROW]),
)
def test_every_planned_call_fits(
    batch: set[int], context: int, horizon: int, memory: int, sizes: Sizes
) -> None:
    rows = sorted(batch)
    try:
        planned = plan_profiles(rows, context, horizon, sizes, memory)
    except UsageError:
        assert sizes.memory(max(rows), 1, horizon) > memory or sizes.memory(1, context, horizon) > memory
        return
    assert [profile.rows for profile in planned[: len(rows)]] == rows
    assert max(profile.context for profile in planned) == context
    for profile in planned:
        assert sizes.memory(profile.rows, profile.context, horizon) <= memory
        assert profile.scratch_bytes == sizes.scratch(profile.rows, profile.context, horizon)


def test_dense_group_attention_grows_with_the_square_of_the_rows() -> None:
    dense = Sizes(768, 3072, 12, 16, 21, 2, 0, dense=True)
    assert dense.scratch(2000, 1440, 96) > 3 * dense.scratch(1000, 1440, 96)


def test_most_of_the_card_or_eight_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "device_memory", lambda: 24 * GIB)
    assert memory_for(is_for_this_machine=True) == pytest.approx(19.2 * GIB)
    assert memory_for(is_for_this_machine=False) == 8 * GIB
    monkeypatch.setattr(profiles, "device_memory", lambda: None)
    assert memory_for(is_for_this_machine=True) == 8 * GIB


@pytest.mark.parametrize(
    ("text", "size"), [("8GiB", 8 * GIB), ("80GB", 80 * 10**9), ("1.5 TiB", 1536 * GIB), ("123", 123)]
)
def test_amounts_of_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "lots", "-8GiB", "0GiB", "8 gigabytes"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(UsageError, match="no amount of memory"):
        parse_memory(text)


@given(st.integers(1, 10**13))
def test_an_amount_that_is_named_is_enough(size: int) -> None:
    assert size <= parse_memory(in_gib(size)) <= size + GIB // 10 + 1
