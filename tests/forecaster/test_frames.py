"""Data frames of any library: the forecasts of upstream's `predict_df`, to the bit, as they came."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from chronos.df_utils import make_future_df
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from chronos_export.errors import UsageError
from tests.forecaster.conftest import Opened
from tests.helpers.inputs import CATEGORICAL, NUMERIC, covariate, series
from tests.helpers.upstream import sort_is_stable

pytestmark = [
    pytest.mark.filterwarnings("ignore:A future version of pandas will return:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:We recommend keeping prediction length:UserWarning"),
]
FREQUENCIES = ["h", "15min", "D", "B", "W", "MS", "ME", "QE", "YS"]
LIBRARIES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda df: df,
    "polars": pl.from_pandas,
    "pyarrow": lambda df: pa.Table.from_pandas(df, preserve_index=False),
    "pandas on pyarrow": lambda df: pa.Table.from_pandas(df, preserve_index=False).to_pandas(
        types_mapper=pd.ArrowDtype
    ),
}


def as_pandas(frame: Any) -> pd.DataFrame:
    if isinstance(frame, pd.DataFrame):
        return pd.DataFrame({name: frame[name].to_numpy() for name in frame.columns})
    return frame.to_pandas()


def assert_same(found: Any, wanted: pd.DataFrame) -> None:
    assert_frame_equal(
        as_pandas(found), wanted, check_exact=True, check_dtype=isinstance(found, pd.DataFrame)
    )
    for name in wanted.columns[3:]:
        assert as_pandas(found)[name].dtype == np.float32


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """Frames of several series, rows of which may be in disorder, and the options of `predict_df`."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = draw(st.sampled_from([["target"], ["y"], ["a", "b"]]))
    kinds = draw(
        st.dictionaries(st.sampled_from(["p", "q", "r"]), st.sampled_from(NUMERIC + CATEGORICAL), max_size=3)
    )
    known = draw(st.sets(st.sampled_from(sorted(kinds)))) if kinds else set()
    horizon, freq = draw(st.sampled_from([1, 4, 40])), draw(st.sampled_from(FREQUENCIES))
    names = random.permutation(draw(st.sampled_from([["B", "A", "C"], [3, 1, 2, 7], ["x"]])))
    parts, aheads = [], []
    for name in names:
        steps = int(random.integers(3, 60))
        stamps = pd.date_range("2021-03-04", periods=steps, freq=freq)
        values = {target: series(random, steps).astype(np.float64) for target in targets}
        past = {column: covariate(random, kind, steps) for column, kind in kinds.items()}
        parts.append(pd.DataFrame({"item_id": name, "timestamp": stamps, **values, **past}))
        if known:
            ahead = {column: covariate(random, kinds[column], horizon) for column in sorted(known)}
            after = make_future_df(parts[-1], horizon, freq)
            aheads.append(pd.DataFrame({**{column: after[column] for column in after}, **ahead}))
    df = pd.concat(parts, ignore_index=True)
    future_df = pd.concat(aheads, ignore_index=True) if aheads else None
    validate = draw(st.booleans())
    if validate:  # then the order of rows is free
        df = df.iloc[random.permutation(len(df))] if draw(st.booleans()) else df
        future_df = future_df if future_df is None else future_df.iloc[random.permutation(len(future_df))]
    return {
        "df": df,
        "future_df": future_df,
        "target": targets[0] if targets == ["y"] else targets,
        "prediction_length": horizon,
        "validate_inputs": validate,
        "freq": draw(st.sampled_from([None, freq])),
        "cross_learning": draw(st.booleans()),
        "batch_size": draw(st.sampled_from([1, 5, 256])),
        "context_length": draw(st.sampled_from([None, 20])),
        "quantile_levels": draw(st.sampled_from([[0.1, 0.5, 0.9], [0.05, 0.43]])),
    }


@settings(max_examples=60, deadline=None)
@given(call=calls(), library=st.sampled_from(sorted(LIBRARIES)))
def test_predict_df(call: dict[str, Any], library: str, opened: Opened) -> None:
    convert = LIBRARIES["pandas" if "object" in map(str, call["df"].dtypes) else library]
    with sort_is_stable():
        wanted = opened.upstream.predict_df(**call)
    assert_frame_equal(opened.loaded.predict_df(**call), wanted, check_exact=True)
    frames = {name: None if call[name] is None else convert(call[name]) for name in ("df", "future_df")}
    found = opened.forecaster.predict_df(**call | frames)
    assert type(found) is type(frames["df"])
    assert_same(found, wanted)


def long(names: list[Any], steps: int = 6, **columns: Any) -> pd.DataFrame:
    """Series of hours, one after the other."""
    stamps = np.tile(pd.date_range("2024-05-01", periods=steps, freq="h"), len(names))
    values = np.random.default_rng(0).standard_normal(len(stamps))
    return pd.DataFrame(
        {"item_id": np.repeat(names, steps), "timestamp": stamps, "target": values, **columns}
    )


def ahead(names: list[Any], steps: int = 3, **columns: Any) -> pd.DataFrame:
    after = long(names, steps, **columns).drop(columns="target")
    return after.assign(timestamp=after["timestamp"] + pd.Timedelta(6, "h"))


def test_defaults_are_upstreams(opened: Opened) -> None:
    df = long(["A", "B"])
    assert_frame_equal(opened.forecaster.predict_df(df), opened.upstream.predict_df(df), check_exact=True)


def test_names_that_are_others(opened: Opened) -> None:
    call = {"id_column": "shop", "timestamp_column": "when", "target": "sold", "prediction_length": 3}
    df = long(["A", "B"]).rename(columns={"item_id": "shop", "timestamp": "when", "target": "sold"})
    mine, theirs = (p.predict_df(df, **call) for p in (opened.forecaster, opened.upstream))
    assert_frame_equal(mine, theirs, check_exact=True)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_units_of_time_stay(unit: str, opened: Opened) -> None:
    df = long(["A"])
    df["timestamp"] = df["timestamp"].dt.as_unit(unit)
    mine, theirs = (p.predict_df(df, prediction_length=3) for p in (opened.forecaster, opened.upstream))
    assert_frame_equal(mine, theirs, check_exact=True)
    if unit != "s":
        found = opened.forecaster.predict_df(pl.from_pandas(df), prediction_length=3)
        assert found.schema["timestamp"] == pl.Datetime(unit)


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"])
@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_time_stamps_that_are_strings(library: str, form: str, opened: Opened) -> None:
    df = long(["A", "B"])
    df["timestamp"] = df["timestamp"].dt.strftime(form)
    wanted = opened.upstream.predict_df(df, prediction_length=3)
    assert_same(opened.forecaster.predict_df(LIBRARIES[library](df), prediction_length=3), wanted)


def test_integers_are_nanoseconds_as_pandas_has_it(opened: Opened) -> None:
    df = long(["A", "B"])
    df["timestamp"] = np.tile(np.arange(6), 2)
    mine, theirs = (p.predict_df(df, prediction_length=3) for p in (opened.forecaster, opened.upstream))
    assert_frame_equal(mine, theirs, check_exact=True)


@pytest.mark.parametrize("library", [pl.DataFrame, pa.table])
def test_dates_stay_dates(library: Callable[[dict[str, Any]], Any], opened: Opened) -> None:
    days = [date(2024, 2, 26) + timedelta(day) for day in range(6)]
    frame = library({"item_id": [1] * 6, "timestamp": days, "target": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    found = opened.forecaster.predict_df(frame, prediction_length=2)
    assert (
        found["timestamp"].to_pylist()
        if library is pa.table
        else found["timestamp"].to_list()
        == [
            date(2024, 3, 3),
            date(2024, 3, 4),
        ]
    )
    assert opened.forecaster.predict_df(pd.DataFrame({"item_id": 1, "timestamp": days, "target": 1.0}))[
        "timestamp"
    ][0] == pd.Timestamp("2024-03-03")


def test_the_type_of_an_id_stays(opened: Opened) -> None:
    frame = pl.from_pandas(long(["A", "B"])).with_columns(item_id=pl.col("item_id").cast(pl.Categorical))
    assert opened.forecaster.predict_df(frame).schema["item_id"] == pl.Categorical


@pytest.mark.parametrize("order", [["b", "a", "c"], ["c", "b", "a"]])
def test_the_order_of_categories_is_their_own(order: list[str], opened: Opened) -> None:
    """With two targets, a category is its place."""
    values = ["a", "b", "b", "a", "a", "b"]
    df = long(["A"], other=1.0, kind=pd.Categorical(values, categories=order))
    ahead_of_it = ahead(["A"], kind=["b", "a", "c"])
    call = {"target": ["target", "other"], "prediction_length": 3}
    wanted = opened.upstream.predict_df(df, ahead_of_it, **call)
    assert_same(opened.forecaster.predict_df(df, ahead_of_it, **call), wanted)
    frame = pl.from_pandas(df).with_columns(kind=pl.Series(values, dtype=pl.Enum(order)))
    assert_same(opened.forecaster.predict_df(frame, pl.from_pandas(ahead_of_it), **call), wanted)
    table = pa.Table.from_pandas(df, preserve_index=False)
    assert_same(opened.forecaster.predict_df(table, pa.Table.from_pandas(ahead_of_it), **call), wanted)


def test_polars_categories_are_sorted_as_their_strings_are(opened: Opened) -> None:
    strings = pl.from_pandas(long(["A"], other=1.0, kind=["z", "b", "b", "z", "m", "b"]))
    call = {"target": ["target", "other"], "prediction_length": 3}
    one, other = (
        opened.forecaster.predict_df(frame, **call)
        for frame in (strings, strings.with_columns(kind=pl.col("kind").cast(pl.Categorical)))
    )
    assert one.equals(other)


def test_flags_and_whole_numbers_with_gaps(opened: Opened) -> None:
    """Which pandas, Polars and PyArrow keep apart from NaN."""
    table = pa.table(
        {
            "item_id": ["A"] * 6,
            "timestamp": pd.date_range("2024-05-01", periods=6, freq="h"),
            "target": [1, None, 3, 4, 5, 6],
            "flag": [True, None, False, True, False, None],
        }
    )
    dtypes = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    wanted = opened.upstream.predict_df(table.to_pandas(types_mapper=dtypes.get), prediction_length=3)
    for frame in (table, pl.from_arrow(table), table.to_pandas(types_mapper=dtypes.get)):
        assert_same(opened.forecaster.predict_df(frame, prediction_length=3), wanted)


def test_a_flag_can_be_forecast(opened: Opened) -> None:
    df = long(["A"]).assign(target=[True, False] * 3)
    wanted = opened.upstream.predict_df(df, prediction_length=3)
    for convert in LIBRARIES.values():
        assert_same(opened.forecaster.predict_df(convert(df), prediction_length=3), wanted)


A, AB = long(["A"]), long(["A", "B"], cov=1.0)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no time stamps": ({"df": A.drop(columns="timestamp")}, r"df does not contain all .*\['timestamp'\]"),
    "no such target": ({"df": A, "target": ["target", "y"]}, r"df does not contain all .*\['y'\]"),
    "strings": ({"df": A.assign(target="a")}, "Target column 'target' must be numeric"),
    "one step": ({"df": A.head(1)}, "Could not infer frequency"),
    "a gap": ({"df": A.drop(3)}, "Could not infer frequency for series A"),
    "a step twice": ({"df": pd.concat([A, A.tail(1)])}, "Could not infer frequency for series A"),
    "no future time stamps": (
        {"df": AB, "future_df": ahead(["A", "B"]).drop(columns="timestamp")},
        "future_df does not contain all",
    ),
    "the future told": (
        {"df": AB, "future_df": ahead(["A", "B"]).assign(target=1.0)},
        r"future_df cannot contain target.*\['target'\]",
    ),
    "a new covariate": (
        {"df": AB, "future_df": ahead(["A", "B"]).assign(new=1.0)},
        r"future_df cannot contain columns not present.*\['new'\]",
    ),
    "a series less": ({"df": AB, "future_df": ahead(["A"])}, "same time series IDs as df.* B"),
    "too long a future": ({"df": AB, "future_df": ahead(["A", "B"], 4)}, "future_df must contain prediction"),
    "another future": (
        {"df": AB, "future_df": ahead(["A", "B"]).assign(timestamp=AB["timestamp"][:3].tolist() * 2)},
        "future_df timestamps do not match .*A has 2024-05-01T00.* instead of 2024-05-01T06",
    ),
    "two frequencies": (
        {"df": pd.concat([A, A.assign(item_id="B", timestamp=pd.date_range("2024", periods=6))])},
        "same frequency, not h for A, D for B",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_what_upstream_refuses_is_refused_in_its_words(library: str, case: str, opened: Opened) -> None:
    call, message = REFUSED[case]
    call = {"prediction_length": 3, **call}
    with pytest.raises(ValueError, match=message.split(".*")[0].split(" for series")[0].split(",")[0]):
        opened.upstream.predict_df(**call)
    frames = {name: LIBRARIES[library](call[name]) for name in ("df", "future_df") if name in call}
    with pytest.raises(UsageError, match=message):
        opened.forecaster.predict_df(**call | frames)


BERLIN = A.assign(timestamp=A["timestamp"].dt.tz_localize("Europe/Berlin"))


@pytest.mark.parametrize(
    ("df", "message"),
    [
        (A.assign(item_id=["A", None, *"AAAA"]), "column 'item_id' names no series in row 1"),
        (
            A.assign(timestamp=A["timestamp"].where(A.index != 4)),
            "'timestamp' has no time stamp in row 4, of.* A",
        ),
        (A.assign(timestamp="yesterday"), "column 'timestamp' holds what is no time stamp"),
        (A.assign(timestamp=1.5), "column 'timestamp' holds what is no time stamp"),
        (BERLIN, "column 'timestamp' has the time zone Europe/Berlin"),
        (pd.concat([A, A["target"]], axis=1), "df cannot be read: .*target"),
        (pl.from_pandas(A).lazy(), "df is a LazyFrame"),
        ({"item_id": ["A"]}, "df is a dict"),
    ],
)
def test_what_upstream_stumbles_over(df: Any, message: str, opened: Opened) -> None:
    with pytest.raises(UsageError, match=message):
        opened.forecaster.predict_df(df)


def test_a_future_that_nobody_checks_still_has_to_fit(opened: Opened) -> None:
    with pytest.raises(UsageError, match="future_df has 4 rows"):
        opened.forecaster.predict_df(AB, ahead(["A"], 4), prediction_length=3, validate_inputs=False)


def test_a_frequency_that_is_an_offset(opened: Opened) -> None:
    mine, theirs = (
        p.predict_df(A.head(2), prediction_length=3, freq=pd.offsets.MonthBegin(2))
        for p in (opened.forecaster, opened.upstream)
    )
    assert_frame_equal(mine, theirs, check_exact=True)
