"""The bench of training runs as its own documentation says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_training"


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    small = ("--rows", "20", "40", "--layers", "1", "--rounds", "1", "--steps", "1")
    done = bench(*small, "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (tmp_path / "training.md").read_text().strip()
    found = json.loads((tmp_path / "training.json").read_text())
    assert {"cpu", "torch", "threads", "layers"} <= found["environment"].keys()
    assert len(found["runs"]) == 4
    assert all(run["seconds"] > 0 and run["bytes"] > 0 for run in found["runs"])
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["20", "40"]
    for line, rows in zip(lines[2:], (20, 40), strict=True):
        upstream, ours = (
            next(run["seconds"] for run in found["runs"] if (run["rows"], run["side"]) == (rows, side))
            for side in ("upstream", "accelerate")
        )
        assert line.split("|")[4].strip().startswith(f"{upstream / ours:.2f}")


def test_rows_that_are_no_whole_groups_are_refused() -> None:
    done = bench("--rows", "50")
    assert done.returncode == 2
    assert "whole groups of 20" in done.stderr
