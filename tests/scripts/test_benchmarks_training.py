"""The benchmark of training runs as its own documentation says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.benchmarks.training import as_markdown, main

STORED = Path(__file__).parents[2] / "benchmarks" / "training.json"


@pytest.mark.slow
def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--rows", "20", "40", "--layers", "1", "--rounds", "1", "--steps", "1", "-o", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "training.md").read_text().strip()
    found = json.loads((tmp_path / "training.json").read_text())
    assert {"cpu", "torch", "threads", "layers"} <= found["environment"].keys()
    assert len(found["runs"]) == 4
    assert all(run["seconds"] > 0 and run["bytes"] > 0 for run in found["runs"])
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["20", "40"]
    for line, rows in zip(lines[2:], (20, 40), strict=True):
        upstream, ours = (
            next(run["seconds"] for run in found["runs"] if (run["rows"], run["side"]) == (rows, side))
            for side in ("upstream", "accelerate")
        )
        assert line.split("|")[4].strip().startswith(f"{upstream / ours:.2f}")


def test_rows_that_are_no_whole_groups_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--rows", "50"])
    assert ended.value.code == 2
    assert "whole groups of 20" in capsys.readouterr().err


def test_what_was_measured_before_is_shown_as_it_is_shown_now() -> None:
    stored = json.loads(STORED.read_text())
    assert STORED.with_suffix(".md").read_text() == as_markdown(stored["environment"], stored["runs"])
