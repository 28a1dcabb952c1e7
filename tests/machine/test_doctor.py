"""What doctor says of this machine, and of one where pip unpacked two onnxruntimes into one folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from chronos_export.artifact.reading import Artifact
from chronos_export.machine import doctor
from chronos_export.machine.cpu import available_cores
from chronos_export.machine.gpu import Gpu
from tests.helpers.environments import run_with

MEND = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install "
LOAD = """
import sys
from chronos_export import load
from chronos_export.errors import MachineError
from chronos_export.runtime import choice
choice.device_capability = lambda: "9.0"
print(load(sys.argv[1]))
try:
    load(sys.argv[1], device="cuda")
except MachineError as error:
    print(error)
"""

ArtifactOf = Callable[[str], Artifact]


@pytest.fixture
def two_onnxruntimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second package that says it owns the folder `onnxruntime`, as pip leaves it."""
    if "onnxruntime-gpu" in doctor.owners("onnxruntime"):
        pytest.skip("onnxruntime-gpu is installed here")
    info = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    (info / "RECORD").write_text("onnxruntime/__init__.py,,\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chronos_export", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_says_what_is_here_and_what_each_extra_would_add() -> None:
    found = json.loads(run_with(("cpu",), "doctor", "--json").stdout)
    assert found["extras"]["cpu"] == {
        "adds": "forecasts on a CPU",
        "packages": {"onnxruntime": version("onnxruntime")},
        "install": "",
    }
    assert found["extras"]["base"]["packages"].keys() == {
        "click",
        "filelock",
        "narwhals",
        "numpy",
        "psutil",
    }
    for name in ("openvino", "tensorrt", "rtx", "pipeline", "export"):
        assert found["extras"][name]["packages"] == {}
        assert "pip install " in found["extras"][name]["install"]
    assert found["cores"] == available_cores()
    text = run_with(("cpu",), "doctor").stdout
    assert f"cpu             onnxruntime {version('onnxruntime')}\n" in text
    assert "openvino        not installed; adds forecasts on a CPU" in text


def test_an_extra_that_is_half_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "is_installed", lambda package: package != "peft")
    wing = doctor.examine()["extras"]["export"]
    assert "torch" in wing["packages"]
    assert wing["install"].endswith("pip install 'peft>=0.18.1'")
    assert "only chronos-forecasting" in doctor.as_text(doctor.examine())


def test_cores_are_those_this_process_may_use() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chronos_export", "doctor", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["cores"] == 1


@pytest.mark.usefixtures("two_onnxruntimes")
def test_two_onnxruntimes_in_one_folder() -> None:
    done = run()
    assert done.returncode == 3
    assert "onnxruntime and onnxruntime-gpu are both installed, into the same folder" in done.stderr
    assert f"fix: {MEND}'onnxruntime>=" in done.stderr
    (found, error) = map(json.loads, run("--json").stdout.splitlines())
    assert found["problems"][0]["fix"] == error["fix"]


def test_on_a_machine_with_a_gpu_the_gpu_package_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "gpus", lambda: [Gpu("H200", "9.0", 141 * 10**9)])
    monkeypatch.setattr(doctor, "owners", lambda package: ["onnxruntime", "onnxruntime-gpu"])
    (problem,) = doctor._onnxruntime()[1]
    assert problem["fix"].endswith("pip install 'onnxruntime-gpu[cuda,cudnn]>=1.21'")


def test_one_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    providers, (problem,) = doctor._onnxruntime()
    assert providers == []
    assert problem["summary"].startswith("onnxruntime does not load: ")


@pytest.mark.usefixtures("two_onnxruntimes")
def test_load_prints_both_commands(artifact_of: ArtifactOf) -> None:
    command = [sys.executable, "-c", LOAD, str(artifact_of("toy").path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    loaded, error, _, fix = done.stdout.splitlines()
    assert loaded.endswith("with onnxruntime on cpu>")
    assert f"the GPU of this machine is not used; {MEND}'onnxruntime-gpu" in done.stderr
    assert error.endswith("onnxruntime and onnxruntime-gpu are both installed, into the same folder")
    assert fix == f"  fix: {MEND}'onnxruntime-gpu[cuda,cudnn]>=1.21'"
