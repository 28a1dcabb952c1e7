"""What is carried to a machine without a network."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from scripts.benchmarks.wheels import ROOTS, needs_of, pack


def test_everything_that_is_needed_but_what_is_there() -> None:
    there = needs_of(["torch"], "3.12")
    needs = needs_of(ROOTS, "3.12", without=there)
    assert {"chronos-forecasting", "transformers", "tokenizers", "polygraphy", "onnxruntime"} <= set(needs)
    assert "pytest-timeout" in needs
    assert not {"torch", "sympy", "openvino", "tensorrt-rtx"} & set(needs)
    assert needs["transformers"] == version("transformers")


def test_folders_hold_no_more_than_may_be_carried_at_once(tmp_path: Path) -> None:
    sizes = {"a": 50, "b": 30, "c": 30, "d": 20, "e": 1}
    for name, size in sizes.items():
        (tmp_path / f"{name}.whl").write_bytes(bytes(size))
    folders = pack(tmp_path.glob("*.whl"), tmp_path / "wheels", limit=60)
    assert [folder.name for folder in folders] == ["1", "2", "3"]
    packed = [[file.stat().st_size for file in folder.iterdir()] for folder in folders]
    assert sorted(size for folder in packed for size in folder) == sorted(sizes.values())
    assert all(sum(folder) <= 60 for folder in packed)


def test_a_wheel_that_fits_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "huge.whl").write_bytes(bytes(61))
    with pytest.raises(SystemExit, match=r"huge\.whl"):
        pack([tmp_path / "huge.whl"], tmp_path / "wheels", limit=60)
