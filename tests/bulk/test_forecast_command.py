"""`chronos-export forecast` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chronos_export.cli.main import main
from tests.bulk.test_bad_files import good, put, write
from tests.forecaster.conftest import Opened
from tests.helpers.environments import run_with

pytestmark = pytest.mark.usefixtures("own_signals")
DATA = "item_id,timestamp,target\n"
DATA += "A,2024-01-01,1\nA,2024-01-02,2\nA,2024-01-03,4\nB,2024-01-01,\nB,2024-01-02,3\n"


def run(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return ended.value.code


def test_it_says_what_it_does(tmp_path: Path, opened: Opened, capfd: pytest.CaptureFixture[str]) -> None:
    data, output = tmp_path / "data.csv", tmp_path / "out.csv"
    data.write_text(DATA)
    assert run("forecast", opened.path, data, "-o", output, "--prediction-length", 2) == 0
    said, err = capfd.readouterr()
    assert said.startswith(f"{output}: 2 steps of 2 series, D apart, from 5 rows in ")
    assert "series by item_id, time by timestamp; forecast target; covariates none\n" in err
    header, *rows = output.read_text().splitlines()
    assert header.startswith("item_id,timestamp,target_name,predictions,0.1,0.2,")
    assert [row.split(",")[:3] for row in rows] == [
        [name, f"2024-01-0{day}", "target"] for name, day in (("A", 4), ("A", 5), ("B", 3), ("B", 4))
    ]


def test_every_option(tmp_path: Path, opened: Opened, capfd: pytest.CaptureFixture[str]) -> None:
    data, future, output = (tmp_path / name for name in ("data.parquet", "future.csv", "out.csv.gz"))
    names = {"item_id": "shop", "timestamp": "when", "target": "sold"}
    write(good().rename(names).with_columns(again=1), data)
    write(good(2, after=9).rename(names).drop("sold"), future)
    columns = ("--id-column", "shop", "--timestamp-column", "when", "--target", "sold", "--target", "again")
    options = ("--quantiles", "0.1,0.9", "--cross-learning", "--context-length", 5, "--freq", "D", "--json")
    files = ("-o", output, "--future", future, "--plot", tmp_path / "some.png", "--prediction-length", 2)
    assert run("forecast", opened.path, data, *files, *columns, *options) == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    progress = [event["message"] for event in events if event.get("stage") == "forecast" and event["message"]]
    assert progress
    assert "of 3 series, " in progress[-1]
    assert "per second, 0 s left" in progress[-1]
    result = events[-1]
    assert (result["event"], result["series"], result["rows"], result["steps"]) == ("result", 3, 27, 2)
    assert {path.name for path in tmp_path.iterdir()} == {data.name, future.name, output.name, "some.png"}


def test_bad_input_ends_with_2(tmp_path: Path, opened: Opened, capfd: pytest.CaptureFixture[str]) -> None:
    write(put("target", 13, float("inf"))(good()), tmp_path / "data.parquet")
    assert run("forecast", opened.path, tmp_path / "data.parquet", "-o", tmp_path / "out.csv", "--quiet") == 2
    said, err = capfd.readouterr()
    assert said == ""
    assert err.splitlines() == [
        f"error: {tmp_path}/data.parquet: column 'target' is infinite in row 13, of series B",
        "  allowed: what float32 holds, or nothing",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["data.parquet"]


def test_levels_that_are_none(tmp_path: Path, opened: Opened, capfd: pytest.CaptureFixture[str]) -> None:
    files = (tmp_path / "data.csv", "-o", tmp_path / "out.csv")
    assert run("forecast", opened.path, *files, "--quantiles", "low,high") == 2
    assert "--quantiles is low,high" in capfd.readouterr().err


def test_csv_needs_the_runtime_alone(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "data.csv").write_text(DATA)
    done = run_with(("cpu",), "forecast", opened.path, tmp_path / "data.csv", "-o", tmp_path / "out.csv.gz")
    assert done.returncode == 0, done.stderr
    for option, package in (
        (("-o", tmp_path / "out.parquet"), "a Parquet file needs pyarrow, which is not installed"),
        (
            ("-o", tmp_path / "o.csv", "--plot", tmp_path / "p.png"),
            "a picture needs matplotlib, which",
        ),
    ):
        done = run_with(("cpu",), "forecast", opened.path, tmp_path / "data.csv", *option)
        assert done.returncode == 3
        assert f"error: {package}" in done.stderr
        assert "fix: pip install " in done.stderr
