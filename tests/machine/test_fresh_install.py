"""A user's first minutes: the wheel in a virtual environment, and what the messages say to do."""

from __future__ import annotations

import shlex
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from chronos_export.artifact.reading import Artifact
from tests.test_architecture import FORECAST

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def programs(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The folder of programs of a fresh environment with the wheel; pip keeps what it fetched."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT],
        check=True,
    )
    venv.create(tmp_path / "venv", with_pip=True)
    folder = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    (wheel,) = tmp_path.glob("chronos_export-*.whl")
    subprocess.run([folder / "python", "-m", "pip", "install", "--quiet", wheel], check=True)
    return folder


def test_the_messages_lead_from_the_base_install_to_a_forecast(
    programs: Path, artifact_of: Callable[[str], Artifact], tmp_path: Path
) -> None:
    artifact = artifact_of("toy").path

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        program = [programs / command[0], *command[1:]]
        return subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)

    inspected = run("chronos-export", "inspect", artifact)
    assert (inspected.returncode, inspected.stderr) == (0, "")
    assert run("chronos-export", "doctor").returncode == 0
    refused = run("chronos-export", "--model", "demo", "--batch", "100")
    assert refused.returncode == 3
    assert "an export needs chronos-forecasting, " in refused.stderr

    refused = run("python", "-c", FORECAST, artifact, "onnxruntime")
    assert "the runtime onnxruntime needs onnxruntime, which is not installed" in refused.stderr
    fix = shlex.split(refused.stderr.rpartition("fix: ")[2])
    assert fix[:2] == ["pip", "install"]
    assert run(*fix).returncode == 0
    forecast = run("python", "-c", FORECAST, artifact, "onnxruntime")
    assert (forecast.returncode, forecast.stdout) == (0, "(3, 21, 16) True\n"), forecast.stderr
