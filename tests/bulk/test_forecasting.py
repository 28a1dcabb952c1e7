"""Files to forecasts: what `predict_df` gives for the whole frame, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from chronos.df_utils import make_future_df
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from chronos_export import Forecaster
from chronos_export.bulk.forecasting import forecast_file
from chronos_export.bulk.job import Job
from chronos_export.bulk.rows import Columns
from chronos_export.errors import UsageError
from tests.bulk.conftest import ROWS
from tests.forecaster.conftest import Opened

pytestmark = [
    pytest.mark.usefixtures("in_small_pieces"),
    pytest.mark.filterwarnings("ignore:We recommend keeping prediction length:UserWarning"),
]
WRITE: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    "parquet": lambda df, path: df.write_parquet(path, row_group_size=11),
    "csv": lambda df, path: df.write_csv(path),
    "csv.gz": lambda df, path: df.write_csv(path, compression="gzip"),
}
COVARIATES: dict[str, Callable[[np.random.Generator, int], list[Any]]] = {
    "float": lambda random, steps: random.standard_normal(steps).tolist(),
    "integer": lambda random, steps: random.integers(-3, 3, steps).tolist(),
    "gappy": lambda random, steps: [None if random.random() < 0.3 else 1.5 for _ in range(steps)],
    "text": lambda random, steps: [["rain", "fair", None, "NaN?"][i] for i in random.integers(0, 4, steps)],
    "boolean": lambda random, steps: (random.random(steps) < 0.5).tolist(),
}


def read(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    found = pl.read_csv(path, try_parse_dates=True)
    numbers = dict.fromkeys(found.columns[3:], pl.Float32)
    return found.with_columns(pl.read_csv(path, schema_overrides=numbers).select(*numbers))


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """Frames of some series, and options."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = draw(st.sampled_from([("target",), ("a", "b")]))
    kinds = draw(st.dictionaries(st.sampled_from("pqr"), st.sampled_from(sorted(COVARIATES)), max_size=3))
    known = sorted(draw(st.sets(st.sampled_from(sorted(kinds))))) if kinds else []
    freq, horizon = draw(st.sampled_from(["h", "D", "B", "MS", "15min"])), draw(st.sampled_from([1, 4, 20]))
    parts, aheads = [], []
    for name in random.permutation(list("ABCDEFG"))[: draw(st.integers(1, 7))]:
        steps = int(random.integers(4, 30))
        values = {target: random.standard_normal(steps) for target in targets}
        for gaps in values.values():
            gaps[: steps // 2][random.random(steps // 2) < 0.2] = np.nan
        past = {column: COVARIATES[kind](random, steps) for column, kind in kinds.items()}
        stamps = pd_range(freq, steps)
        parts.append(pl.DataFrame({"item_id": [str(name)] * steps, "timestamp": stamps, **values, **past}))
        if known:
            after = make_future_df(parts[-1].to_pandas()[["item_id", "timestamp"]], horizon, freq)
            ahead = {column: COVARIATES[kinds[column]](random, horizon) for column in known}
            aheads.append(pl.from_pandas(after[["item_id", "timestamp"]]).with_columns(**_columns(ahead)))
    return {
        "df": pl.concat(parts, how="vertical_relaxed"),
        "future_df": pl.concat(aheads, how="vertical_relaxed") if aheads else None,
        "target": targets,
        "prediction_length": horizon,
        "freq": draw(st.sampled_from([None, freq])),
        "cross_learning": draw(st.booleans()),
        "context_length": draw(st.sampled_from([None, 20])),
        "quantile_levels": draw(st.sampled_from([[0.1, 0.5, 0.9], [0.05, 0.43]])),
    }


def _columns(values: dict[str, list[Any]]) -> dict[str, pl.Series]:
    return {name: pl.Series(name, column) for name, column in values.items()}


def pd_range(freq: str, steps: int) -> Any:
    import pandas as pd

    return pd.date_range("2021-03-04", periods=steps, freq=freq).as_unit("us").to_numpy()


def run(
    folder: Path, opened: Opened, call: dict[str, Any], form: str, out: str, **options: Any
) -> pl.DataFrame:
    """The forecast of a file, read back."""
    data, future, output = (folder / f"{name}.{form}" for name in ("data", "future", "out"))
    WRITE[form](call["df"], data)
    if call.get("future_df") is not None:
        WRITE[form](call["future_df"], future)
    columns = Columns(targets=tuple(call["target"]), **options)
    names = {"freq", "cross_learning", "context_length", "prediction_length"} & call.keys()
    job = Job(
        opened.path,
        data,
        folder / f"out.{out}",
        future if call.get("future_df") is not None else None,
        columns,
        quantiles=call["quantile_levels"],
        **{name: call[name] for name in names},
    )
    done = forecast_file(job)
    assert (done.series, done.rows) == (call["df"]["item_id"].n_unique(), len(call["df"]))
    assert not output.exists() or output == job.output
    assert sorted(folder.glob(".*")) == []
    return read(job.output)


@settings(max_examples=60, deadline=None)
@given(call=calls(), form=st.sampled_from(sorted(WRITE)), out=st.sampled_from(sorted(WRITE)))
def test_a_file(call: dict[str, Any], form: str, out: str, opened: Opened, forecaster: Forecaster) -> None:
    wanted = forecaster.predict_df(**call | {"target": list(call["target"])}, batch_size=ROWS)
    with TemporaryDirectory() as folder:
        found = run(Path(folder), opened, call, form, out)
    assert found.columns == wanted.columns
    assert_frame_equal(
        found.with_columns(pl.col("timestamp").cast(pl.Datetime("us"))), wanted, check_exact=True
    )


def two_columns(random: np.random.Generator, groups: list[str]) -> pl.DataFrame:
    """A series of ten hours for each group; its group is a column."""
    parts = [
        pl.DataFrame(
            {
                "item_id": [f"{number}"] * 10,
                "timestamp": pd_range("h", 10),
                "target": random.standard_normal(10),
                "shop": [group] * 10,
            }
        )
        for number, group in enumerate(groups)
    ]
    return pl.concat(parts)


def grouped(folder: Path, opened: Opened, df: pl.DataFrame) -> pl.DataFrame:
    call = {"df": df, "target": ("target",), "prediction_length": 4, "quantile_levels": [0.1, 0.5]}
    return run(folder, opened, call, "parquet", "parquet", group="shop")


def test_a_group_is_what_cross_learning_makes_of_its_series(
    tmp_path: Path, opened: Opened, forecaster: Forecaster
) -> None:
    df = two_columns(np.random.default_rng(0), ["x", "x", "x", "y", "z", "z"])
    options = {"prediction_length": 4, "quantile_levels": [0.1, 0.5]}
    of_each = [
        forecaster.predict_df(part.drop("shop"), cross_learning=True, **options)
        for part in df.partition_by("shop", maintain_order=True)
    ]
    found = grouped(tmp_path, opened, df)
    assert_frame_equal(found, pl.concat(of_each), check_exact=True)
    alone = forecaster.predict_df(df.drop("shop"), **options)
    assert (found["0.5"] - alone["0.5"]).abs().max() > 1e-3


def test_levels_beyond_the_models_are_its_outermost(
    tmp_path: Path, opened: Opened, forecaster: Forecaster
) -> None:
    df = two_columns(np.random.default_rng(0), ["x", "y"]).drop("shop")
    call = {"df": df, "target": ["target"], "prediction_length": 4, "quantile_levels": [0.001, 0.5, 1.0]}
    found = run(tmp_path, opened, call, "parquet", "parquet")
    assert_frame_equal(found, forecaster.predict_df(**call), check_exact=True)


def test_ids_keep_their_type(tmp_path: Path, opened: Opened, forecaster: Forecaster) -> None:
    df = two_columns(np.random.default_rng(0), ["x", "y"]).drop("shop")
    call = {"target": ["target"], "prediction_length": 4, "quantile_levels": [0.5]}
    for kind in (pl.Int32, pl.Categorical):
        call["df"] = df.with_columns(pl.col("item_id").cast(pl.String).cast(kind))
        found = run(tmp_path, opened, call, "parquet", "parquet")
        assert_frame_equal(found, forecaster.predict_df(**call), check_exact=True)
        (tmp_path / "out.parquet").unlink()


def test_text_stays_as_it_is(tmp_path: Path, opened: Opened) -> None:
    """Ids are no numbers, dates have no hours, names may hold commas and line breaks."""
    rows = [f'"{name}",2024-02-{day},{day}.5,' for name in ("007", "a, b\nc") for day in range(25, 30)]
    (tmp_path / "data.csv").write_text("item_id,timestamp,target,unused\n" + "\n".join(rows) + "\n\n")
    job = Job(opened.path, tmp_path / "data.csv", tmp_path / "out.csv", prediction_length=1, quantiles=[0.5])
    forecast_file(job)
    found = pl.read_csv(tmp_path / "out.csv", schema_overrides={"item_id": pl.String})
    assert found["item_id"].to_list() == ["007", "a, b\nc"]
    assert found["timestamp"].to_list() == ["2024-03-01"] * 2


def test_a_picture(tmp_path: Path, opened: Opened) -> None:
    df = two_columns(np.random.default_rng(0), list("abcdefgh")).drop("shop")
    df.write_csv(tmp_path / "data.csv")
    job = Job(opened.path, tmp_path / "data.csv", tmp_path / "out.csv", plot=tmp_path / "some.png")
    forecast_file(job)
    assert job.plot is not None
    width, height = (int.from_bytes(job.plot.read_bytes()[at : at + 4]) for at in (16, 20))
    assert (width, height) == (1100, round(110 * 2.4 * 6))


def test_what_is_there_is_replaced_only_when_asked(tmp_path: Path, opened: Opened) -> None:
    two_columns(np.random.default_rng(0), ["x"]).drop("shop").write_csv(tmp_path / "data.csv")
    job = Job(opened.path, tmp_path / "data.csv", tmp_path / "out.csv", prediction_length=1)
    job.output.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        forecast_file(job)
    assert job.output.read_text() == "mine"
    forecast_file(replace(job, overwrite=True))
    assert len(read(job.output)) == 1
