"""Frequencies and the time stamps that follow: those of pandas, which this does without."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chronos.df_utils import infer_freq_from_df, make_future_df
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pandas.tseries.frequencies import to_offset

from chronos_export.errors import UsageError
from chronos_export.forecaster.frequency import parse
from chronos_export.forecaster.inference import infer, shared_frequency

DAYS, MONTHS = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"], ["JAN", "FEB", "MAR", "AUG", "NOV", "DEC"]
YEARLY = [f"{kind}{period}{end}" for kind in ("", "B") for period in "QY" for end in "SE"]
UNITS = [
    *("D", "h", "min", "s", "ms", "us", "B", "bh", "W", "MS", "ME", "BMS", "BME", *YEARLY),
    *(f"W-{day}" for day in DAYS),
    *(f"{unit}-{month}" for unit in YEARLY for month in MONTHS),
    *(f"WOM-{week}{day}" for week in (1, 2, 4) for day in DAYS),
]
pytestmark = pytest.mark.filterwarnings(
    "ignore:A future version of pandas will return:DeprecationWarning", "ignore:Non-vectorized"
)

starts = st.datetimes(pd.Timestamp("1960-01-01"), pd.Timestamp("2060-01-01")).map(
    lambda when: np.datetime64(when.replace(microsecond=0))
)
frequencies = st.builds(
    lambda unit, count: unit if count == 1 else f"{count}{unit}",
    st.sampled_from(UNITS),
    st.sampled_from([1, 1, 1, 2, 3, 4, 5, 7, 12, 15]),
)


def stamps_of(start: np.datetime64, freq: str, count: int, unit: str = "us") -> pd.DatetimeIndex:
    stamps = pd.date_range(pd.Timestamp(start), periods=count + 40, freq=freq)
    if unit == "ns":
        assume(stamps[-1].year < 2262)  # where nanoseconds end
    return stamps[:count].as_unit(unit)


def inferred(stamps: np.ndarray) -> str | None:
    return pd.infer_freq(pd.DatetimeIndex(stamps))


@settings(max_examples=300, deadline=None)
@given(start=starts, freq=frequencies, count=st.integers(3, 40), unit=st.sampled_from(["s", "us", "ns"]))
def test_regular_time_stamps(start: np.datetime64, freq: str, count: int, unit: str) -> None:
    assume(unit != "s" or not freq.endswith(("ms", "us")))
    stamps = stamps_of(start, freq, count, unit).to_numpy()
    mine, theirs = infer(stamps), inferred(stamps)
    assert (None if mine is None else str(mine)) == theirs
    if mine is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
            after = [pd.Timestamp(stamps[-1]) + step * to_offset(theirs) for step in range(1, 30)]
        assert (
            mine.after(stamps[-1:], 29)[0].tolist()
            == pd.DatetimeIndex(after).as_unit(unit).to_numpy().tolist()
        )


@settings(max_examples=200, deadline=None)
@given(data=st.data(), start=starts, freq=frequencies, count=st.integers(4, 30))
def test_time_stamps_with_something_wrong(
    data: st.DataObject, start: np.datetime64, freq: str, count: int
) -> None:
    """One is missing, one is moved, one is there twice."""
    stamps = stamps_of(start, freq, count).to_numpy().copy()
    place = data.draw(st.integers(1, count - 2))
    match data.draw(st.sampled_from(["missing", "moved", "twice"])):
        case "missing":
            stamps = np.delete(stamps, place)
        case "moved":
            stamps[place] += np.timedelta64(data.draw(st.sampled_from([1, 24, 48])), "h")
            stamps.sort()
        case "twice":
            stamps[place] = stamps[place - 1]
    mine = infer(stamps)
    assert (None if mine is None else str(mine)) == inferred(stamps)


@settings(max_examples=200, deadline=None)
@given(days=st.lists(st.integers(0, 70), min_size=3, max_size=6, unique=True), start=starts)
def test_any_days(days: list[int], start: np.datetime64) -> None:
    stamps = start + np.sort(days).astype("m8[D]")
    mine = infer(stamps)
    assert (None if mine is None else str(mine)) == inferred(stamps)


@settings(max_examples=300, deadline=None)
@given(start=starts, freq=frequencies, unit=st.sampled_from(["s", "us", "ns"]), steps=st.integers(1, 30))
@example(start=np.datetime64("2026-08-29T18:00:00"), freq="bh", unit="s", steps=20)
def test_what_follows_any_time_stamp(start: np.datetime64, freq: str, unit: str, steps: int) -> None:
    """A frequency may be given that the time stamp is not of."""
    last = stamps_of(start, "D", 1, unit)
    stamps_of(start, freq, 1, unit)
    offset = to_offset(freq)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        theirs = np.stack([last + step * offset for step in range(1, steps + 1)], axis=1)
    found = parse(freq).after(last.to_numpy(), steps)
    assert found.dtype == theirs.dtype
    assert np.array_equal(found, theirs)


def test_the_end_of_time() -> None:
    """Which is in 2262 where nanoseconds are counted."""
    last = np.array(["2261-01-01"], "M8[ns]")
    with pytest.raises(UsageError, match=r"2 steps of YS after .* M8\[ns\]"):
        parse("YS").after(last, 2)
    assert parse("YS").after(last.astype("M8[us]"), 2)[0, 1] == np.datetime64("2263-01-01")


@pytest.mark.parametrize(
    "name", ["", "0D", "-1D", "M", "T", "SME", "1h30min", "W-FOO", "WOM-5MON", "MS-JAN", "15"]
)
def test_names_that_are_no_frequency_or_none_of_time_stamps(name: str) -> None:
    with pytest.raises(UsageError, match="freq is ") as error:
        parse(name)
    assert "15min" in error.value.allowed


def frame(*series: tuple[str, str, int]) -> pd.DataFrame:
    """Series of a start, a frequency and a length."""
    parts = [pd.DataFrame({"item_id": number, "timestamp": stamps_of(np.datetime64(start), freq, count)})
             for number, (start, freq, count) in enumerate(series)]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def asked(df: pd.DataFrame) -> Any:
    lengths = df["item_id"].value_counts(sort=False).to_numpy()
    return str(shared_frequency(df["timestamp"].to_numpy(), lengths, lambda number: f"S{number}"))


@settings(max_examples=100, deadline=None)
@given(
    series=st.lists(st.tuples(starts.map(str), st.integers(1, 40)), min_size=1, max_size=8),
    freq=frequencies,
)
def test_many_series_of_one_frequency(series: list[tuple[str, int]], freq: str) -> None:
    df = frame(*((start, freq, count) for start, count in series))
    try:
        theirs = infer_freq_from_df(df)
    except ValueError as error:
        with pytest.raises(UsageError, match=str(error)[:30]):
            asked(df)
        return
    assert asked(df) == theirs
    lengths = df["item_id"].value_counts(sort=False).to_numpy()
    last = df["timestamp"].to_numpy()[np.cumsum(lengths) - 1]
    after = make_future_df(df, 7)["timestamp"].to_numpy().reshape(-1, 7)
    assert np.array_equal(parse(theirs).after(last, 7), after)


def test_series_of_different_frequencies() -> None:
    day, hour, month = (("2020-01-01", freq, 5) for freq in ("D", "h", "MS"))
    for others in (
        [day, hour],
        [hour, day, day],
        [day, month],
        [("2020-01-05", "W", 4), ("2020-01-06", "7D", 4)],
    ):
        with pytest.raises(UsageError, match=r"same frequency, not .* for S0, .* for S1"):
            asked(frame(*others))
        with pytest.raises(ValueError, match="same frequency"):
            infer_freq_from_df(frame(*others))


def test_a_series_without_a_frequency_is_named() -> None:
    df = frame(("2020-01-01", "D", 5), ("2020-01-01", "D", 2), ("2020-01-01", "D", 5)).drop(9)
    with pytest.raises(UsageError, match="Could not infer frequency for series S2") as error:
        asked(df)
    assert "freq=" in error.value.fix


def test_too_few_time_stamps_for_any_frequency() -> None:
    with pytest.raises(UsageError, match=r"no time series has at least 3 (.|\n)*explicit `freq`"):
        asked(frame(("2020-01-01", "D", 2), ("2020-01-01", "D", 1)))
