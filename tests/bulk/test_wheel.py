"""The wheel with a runtime for the CPU alone: forecasts in Python and of a file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from chronos_export.artifact.reading import Artifact
from tests.helpers.cached import environment_of_the_wheel
from tests.test_architecture import EXPORT_ONLY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ABSENT = (*EXPORT_ONLY, "pyarrow", "matplotlib", "polars")
FORECAST = f"""
import sys
from importlib.util import find_spec
import numpy as np
from chronos_export import Forecaster
print([name for name in {ABSENT!r} if find_spec(name)])
(quantiles,), _ = Forecaster(sys.argv[1]).predict_quantiles([np.arange(40) % 7], 3, [0.5])
print(*quantiles[0, :, 0])
"""


def test_it_forecasts_without_what_exports(artifact_of: Callable[[str], Artifact], tmp_path: Path) -> None:
    python, artifact = environment_of_the_wheel("cpu"), artifact_of("demo").path

    def run(program: Path, *arguments: str | Path) -> str:
        command = [program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found, forecast = run(python, "-c", FORECAST, artifact).splitlines()
    assert found == "[]"
    days = [f"{name},2024-01-{1 + day:02},{day % 7}" for name in "AB" for day in range(28)]
    (tmp_path / "data.csv").write_text("\n".join(["item_id,timestamp,target", *days]) + "\n")
    command = python.with_name("chronos-export")
    options = ("-o", "out.csv", "--prediction-length", "3", "--quantiles", "0.5")
    assert "2 series" in run(command, "forecast", artifact, "data.csv", *options)
    rows = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()]
    assert rows[0] == ["item_id", "timestamp", "target_name", "predictions", "0.5"]
    assert [row[:2] for row in rows[1:4]] == [["A", "2024-01-29"], ["A", "2024-01-30"], ["A", "2024-01-31"]]
    for at_hand in ([float(value) for value in forecast.split()], [float(row[4]) for row in rows[1:4]]):
        assert len(at_hand) == 3
        assert all(-1 < value < 8 for value in at_hand)
