"""Which TensorRT is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from chronos_export.machine.packages import is_installed


def test_a_folder_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Python imports an empty folder as a package; this repository has one of the name `tensorrt`."""
    if is_installed("tensorrt"):
        pytest.skip("TensorRT is installed here")
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.util.find_spec("tensorrt") is not None
    assert not is_installed("tensorrt")
