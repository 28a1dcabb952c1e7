"""Memory hardly grows with the file: five million rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.forecaster.conftest import Opened

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
MOST = 1.5e9  # bytes
SERIES, STEPS, AHEAD = 50_000, 100, 24
RUN = """
import re, sys
from pathlib import Path
from chronos_export.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def write(file: Path, series: int) -> None:
    """Days of as many series; a row group, which is read whole, is of one size in small and large files."""
    day = np.datetime64("2024-01-01", "D")
    table = pa.table(
        {
            "item_id": np.repeat([f"series {number}" for number in range(series)], STEPS),
            "timestamp": np.tile(day + np.arange(STEPS), series),
            "target": np.random.default_rng(0).standard_normal(series * STEPS).cumsum(),
        }
    )
    if file.suffix == ".csv":
        pyarrow.csv.write_csv(table, file)
    else:
        pq.write_table(table, file, row_group_size=250_000)


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_five_million_rows(form: str, tmp_path: Path, opened: Opened) -> None:
    peaks = {}
    for series in (SERIES // 10, SERIES):
        data, output = tmp_path / f"data.{form}", tmp_path / f"out-{series}.{form}"
        write(data, series)
        arguments = ("forecast", opened.path, data, "-o", output, "--prediction-length", str(AHEAD))
        command = [sys.executable, "-c", RUN, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        said, peak = done.stdout.splitlines()
        assert f"{AHEAD} steps of {series:,} series, D apart, from {series * STEPS:,} rows" in said
        peaks[series] = int(peak) * 1024
        print(f"{form}: {said}; {peaks[series] / 1e6:.0f} MB")
    assert peaks[SERIES] < MOST
    assert peaks[SERIES] < 1.5 * peaks[SERIES // 10]  # ten times the rows; the names of all series are kept
