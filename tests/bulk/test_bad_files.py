"""What can be wrong with a file: the column, the series and the row are named, and nothing is written."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from chronos_export.bulk.forecasting import forecast_file
from chronos_export.bulk.job import Job
from chronos_export.bulk.rows import Columns
from chronos_export.errors import UsageError
from tests.forecaster.conftest import Opened

pytestmark = pytest.mark.usefixtures("in_small_pieces")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
START = datetime(2024, 5, 1)
Change = Callable[[pl.DataFrame], pl.DataFrame]


def good(steps: int = 9, after: int = 0) -> pl.DataFrame:
    """Series A, B, C of days; the row of B's fifth is 14."""
    stamps = [START + DAY * (after + step) for step in range(steps)]
    parts = [
        pl.DataFrame(
            {"item_id": [name] * steps, "timestamp": stamps, "target": [1.0 + i for i in range(steps)]}
        ).with_columns(price=2.0)
        for name in "ABC"
    ]
    return pl.concat(parts)


def ahead() -> pl.DataFrame:
    return good(3, after=9).drop("target")


def put(column: str, row: int, value: Any) -> Change:
    """Put a value into a row, counted from 1."""
    return lambda df: df.with_columns(
        pl.when(pl.int_range(pl.len()) == row - 1).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )


def without(*rows: int) -> Change:
    return lambda df: df.filter(~(pl.int_range(pl.len()) + 1).is_in(rows))


def hourly(name: str) -> Change:
    """One series is of hours."""
    hours = START + HOUR * pl.int_range(pl.len()).over("item_id")
    return lambda df: df.with_columns(
        timestamp=pl.when(pl.col("item_id") == name).then(hours).otherwise(pl.col("timestamp"))
    )


def empty(name: str) -> Change:
    return lambda df: df.with_columns(
        target=pl.when(pl.col("item_id") == name).then(None).otherwise(pl.col("target"))
    )


DATA: dict[str, tuple[Change, str]] = {
    "no target": (lambda df: df.rename({"target": "y"}), "there is no column 'target'"),
    "no id": (lambda df: df.drop("item_id"), "there is no column 'item_id'"),
    "no rows": (lambda df: df.head(0), "it has no rows"),
    "unsorted": (
        put("timestamp", 14, START),
        "column 'timestamp' has 2024-05-01T00:00:00.* after 2024-05-04T.* in row 14, of series B",
    ),
    "twice": (
        put("timestamp", 14, START + 3 * DAY),
        "05-04.* after 2024-05-04.* in row 14, of series B",
    ),
    "irregular": (without(14), "irregular from row 14, of series B: 2024-05-06.* after 2024-05-04"),
    "two frequencies": (
        hourly("B"),
        "column 'timestamp' has the frequency h from row 10, of series B",
    ),
    "no observation": (empty("C"), "column 'target' has no value from row 19, of series C"),
    "infinite": (put("target", 13, float("-inf")), "column 'target' is infinite in row 13, of series B"),
    "too large": (put("price", 27, 1e39), "column 'price' is infinite in row 27, of series C"),
    "null id": (put("item_id", 12, None), "column 'item_id' is (empty|null) in row 12"),
    "no time": (put("timestamp", 12, None), "column 'timestamp' (is null|holds '') in row 12, of series B"),
    "again": (lambda df: pl.concat([df, df.head(2)]), "series A begins again in row 28, of series A"),
    "too short": (lambda df: df.group_by("item_id", maintain_order=True).head(2), "no series has at least 3"),
}
FUTURE: dict[str, tuple[Change, str]] = {
    "too few steps": (without(6), "there are 2 of 3 steps from row 4, of series B on"),
    "a gap": (without(5), "has 2024-05-12.* instead of 2024-05-11.* in row 5, of series B"),
    "too many": (
        lambda df: pl.concat([good(4, after=9).drop("target").head(4), df.tail(6)]),
        "past the 3 steps in row 4, of series A",
    ),
    "no such series": (put("item_id", 1, "Z"), "row 1, of series Z, stands where series A should"),
    "one left out": (without(4, 5, 6), "row 4, of series C, stands where series B should"),
    "the last left out": (without(7, 8, 9), "there are no rows for series C"),
    "another column": (lambda df: df.with_columns(rain=1), "column 'rain' is not in .*data"),
    "the target": (lambda df: df.with_columns(target=1.0), "column 'target' is what is forecast"),
    "infinite": (put("price", 5, float("inf")), "column 'price' is infinite in row 5, of series B"),
}


def write(df: pl.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        df.write_parquet(path, row_group_size=10)
    else:
        df.write_csv(path)


@pytest.fixture
def job(opened: Opened, tmp_path: Path) -> Job:
    return Job(opened.path, tmp_path / "data.csv", tmp_path / "out.csv", prediction_length=3)


def refusal(job: Job) -> str:
    """The message; nothing may have been written."""
    folder = job.data.parent
    before = sorted(folder.iterdir())
    with pytest.raises(UsageError) as caught:
        forecast_file(job)
    assert sorted(folder.iterdir()) == before
    return str(caught.value)


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("case", sorted(DATA))
def test_data(case: str, form: str, job: Job, tmp_path: Path) -> None:
    change, pattern = DATA[case]
    job = replace(job, data=tmp_path / f"data.{form}")
    write(change(good()), job.data)
    assert re.search(pattern, refusal(job))


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("case", sorted(FUTURE))
def test_future(case: str, form: str, job: Job, tmp_path: Path) -> None:
    change, pattern = FUTURE[case]
    job = replace(job, data=tmp_path / f"data.{form}", future=tmp_path / f"future.{form}")
    assert job.future
    write(good(), job.data)
    write(change(ahead()), job.future)
    assert re.search(pattern, refusal(job))


def test_what_is_good(job: Job, tmp_path: Path) -> None:
    job = replace(job, future=tmp_path / "future.csv")
    write(good(), job.data)
    write(ahead(), tmp_path / "future.csv")
    assert forecast_file(job).series == 3


def test_irregular_but_the_distance_is_given(job: Job) -> None:
    write(without(14)(good()), job.data)
    assert forecast_file(replace(job, freq="D")).frequency == "D"


@pytest.mark.parametrize(
    ("spoil", "pattern"),
    [
        (lambda text: b"", "it is empty"),
        (lambda text: text.replace(b"price", b"target"), "there are two columns 'target'"),
        (lambda text: text[:-14], r"row 27 has \d cells and the header 4"),
        (lambda text: text.replace(b"5.0", b"much", 1), "column 'target' holds 'much' in row 5, of series A"),
        (
            lambda text: text.replace(b"2024-05-04T", b"04.05.2024T", 1),
            "holds '04.05.* row 4, of series A",
        ),
        (lambda text: text.replace(b"05-04T", b"13-04T", 1), "holds '2024-13-.* row 4, of series A"),
        (lambda text: text.replace(b"B,2024", b"\xff,2024", 1), "cannot be read as CSV: .*utf-8"),
        (
            lambda text: text.replace(b"B,2024", b'"B,2024', 1),
            "cannot be read as CSV: unexpected end",
        ),
    ],
)
def test_text(spoil: Callable[[bytes], bytes], pattern: str, job: Job) -> None:
    write(good(), job.data)
    job.data.write_bytes(spoil(job.data.read_bytes()))
    assert re.search(pattern, refusal(job))


@pytest.mark.parametrize("form", ["csv.gz", "parquet"])
def test_a_file_cut_short(form: str, job: Job, tmp_path: Path) -> None:
    job = replace(job, data=tmp_path / f"data.{form}")
    text = good().write_csv().encode()
    if form == "parquet":
        write(good(), job.data)
    else:
        job.data.write_bytes(gzip.compress(text))
    job.data.write_bytes(job.data.read_bytes()[:-40])
    assert re.search("cannot be read as", refusal(job))


def test_groups(job: Job) -> None:
    job = replace(job, columns=Columns(group="shop"))
    shops = {name: pl.col("item_id").replace({"A": "x", "B": "y", "C": "z"}) for name in ("shop",)}
    df = good().with_columns(**shops)
    cases = [
        (put("shop", 12, "x"), "column 'shop' is x after y in row 12, of series B"),
        (
            lambda df: df.with_columns(shop=pl.col("shop").replace({"z": "x"})),
            "group x begins again in row",
        ),
        (put("shop", 20, None), "column 'shop' names no group in row 20, of series C"),
    ]
    for change, pattern in cases:
        write(change(df), job.data)
        assert re.search(pattern, refusal(job))


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"output": "out.txt"}, "is neither Parquet nor CSV"),
        ({"output": "no/out.csv"}, "is no folder"),
        ({"output": "data.csv"}, "is what is forecast"),
        ({"data": "other.csv"}, "is not there"),
        ({"data": "other.txt"}, "is neither Parquet nor CSV"),
        ({"plot": "out.svg"}, "is no picture"),
        ({"columns": Columns(targets=("target", "target"))}, "column 'target' was given twice"),
        ({"columns": Columns(group="price"), "cross_learning": True}, "by batches, or by a column"),
        ({"quantiles": [0.1, 1.5]}, "the quantiles are"),
        ({"quantiles": [0.1, 0.1]}, "the quantiles are"),
        ({"freq": "sometimes"}, "freq is 'sometimes'"),
        ({"prediction_length": 0}, "prediction_length is 0"),
        ({"context_length": 0}, "context_length is 0"),
    ],
)
def test_options(options: dict[str, Any], pattern: str, job: Job, tmp_path: Path) -> None:
    write(good(), job.data)
    paths = {name: tmp_path / value for name, value in options.items() if name in ("data", "output", "plot")}
    assert re.search(pattern, refusal(replace(job, **options | paths)))
