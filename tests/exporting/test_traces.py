"""What an export and a forecast leave behind: the artifact, which does not say where it was made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chronos_export.artifact.naming import find_source, recorded_source
from chronos_export.artifact.reading import open_artifact
from chronos_export.engine.choice import EngineOptions
from chronos_export.errors import UsageError
from chronos_export.exporting.export import export, validate_artifact
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.engines import needs_rtx

USE = """
import sys, numpy as np
from chronos_export import export, load
artifact = export(sys.argv[1], output=sys.argv[2])
for runtime in ("onnxruntime", "openvino"):
    load(artifact.path, runtime).predict([np.arange(50.0)], prediction_length=3)
"""


@pytest.fixture
def near(tmp_path: Path) -> Path:
    """A toy whose proof is quick, beside which the artifacts of a test are published."""
    return make_checkpoint(tmp_path / "near", "toy", context_length=128, max_output_patches=4)


def test_nothing_is_written_to_an_empty_home(near: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    elsewhere = ("XDG_", "HF_", "ORT_", "CI", "TF_BUILD", "JENKINS_URL")  # CI turns OpenVINO's telemetry off
    environment = {name: value for name, value in os.environ.items() if not name.startswith(elsewhere)}
    before = set(tmp_path.iterdir())
    subprocess.run(
        [sys.executable, "-c", USE, near, tmp_path / "artifact"],
        env={**environment, "HOME": str(home), "USERPROFILE": str(home)},
        cwd=tmp_path,
        check=True,
    )
    assert list(home.rglob("*")) == []
    assert set(tmp_path.iterdir()) - before == {tmp_path / "artifact"}


@pytest.mark.parametrize(
    ("size", "batch", "engine"),
    [
        ("toy", (), EngineOptions(runtime="onnxruntime")),
        pytest.param(
            "small", (2,), EngineOptions(runtime="tensorrt-rtx", context=64, horizon=32), marks=needs_rtx
        ),
    ],
)
def test_an_artifact_holds_no_path_of_this_machine(
    size: str, batch: tuple[int, ...], engine: EngineOptions, tmp_path: Path
) -> None:
    source = make_checkpoint(tmp_path / "mine", size, context_length=128, max_output_patches=4)
    artifact = export(str(source), batch, tmp_path / "artifact", engine=engine)
    assert artifact.manifest.checkpoint.source == "./mine"
    machine = [str(path).encode() for path in (tmp_path, Path.home(), Path.cwd(), Path(sys.prefix))]
    found = [
        (file.name, path)
        for file in artifact.path.rglob("*")
        if file.is_file()
        for path in machine
        if path in file.read_bytes()
    ]
    assert found == []


def test_validate_finds_a_checkpoint_beside_the_artifact_or_is_told(
    near: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = export(str(near), output=tmp_path / "artifact").path
    assert validate_artifact(artifact).passed
    moved = Path(shutil.move(near, tmp_path / "moved"))
    with pytest.raises(UsageError, match="made from a folder named near, which is neither") as error:
        validate_artifact(artifact)
    assert open_artifact(artifact).manifest.checkpoint.digest in error.value.allowed
    assert error.value.fix == f"chronos-export validate {artifact} --model FOLDER"
    assert validate_artifact(artifact, source=str(moved)).passed


@pytest.mark.parametrize("source", ["demo", "amazon/chronos-2"])
def test_a_model_with_a_name_keeps_it(source: str, tmp_path: Path) -> None:
    assert recorded_source(source) == source
    assert find_source(source, tmp_path) == source


def test_a_folder_is_neither_a_hub_id_nor_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "demo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert recorded_source("work/demo") == "./demo"
    assert find_source("./demo", tmp_path / "work" / "artifact") == str(tmp_path / "work" / "demo")
    assert find_source("./demo", tmp_path / "artifact") is None
    monkeypatch.chdir(tmp_path / "work")
    assert find_source("./demo", tmp_path / "artifact") == "demo"
