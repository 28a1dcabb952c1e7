"""An artifact as a `Forecaster`, and files that are read a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chronos_export import Forecaster
from chronos_export.bulk import csv_files, forecasting, parquet_files, survey
from tests.forecaster.conftest import Opened, opened

__all__ = ["forecaster", "in_small_pieces", "opened"]
ROWS = 6  # of a batch


@pytest.fixture(scope="session")
def forecaster(opened: Opened) -> Forecaster:
    """Opened as the command line opens it, on as many threads."""
    return Forecaster(opened.path)


@pytest.fixture(scope="module")
def in_small_pieces() -> Iterator[None]:
    """Series begin and end anywhere in what is read at a time, and there are several batches."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (csv_files, parquet_files):
            patch.setattr(module, "AT_ONCE", 7)
        patch.setattr(parquet_files, "ROW_GROUP", 20)
        patch.setattr(survey, "TOGETHER", 3)
        patch.setattr(forecasting, "BATCH_SIZE", ROWS)
        yield
