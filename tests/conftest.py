"""Checkpoints shared by the tests of one session. Read only: a test that edits one makes its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints import make_adapter, make_checkpoint


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("toy"), "toy")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("small"), "small")


@pytest.fixture(scope="session")
def quantiles13(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("quantiles13"), "quantiles13")


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory, toy: Path) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapter"), toy)
