"""What chronos-export installs beside, and the script that tries the oldest and the newest packages."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "environments"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("environments", str(SCRIPT))
    spec = spec_from_loader("environments", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_tests_it_names_are_there(script: ModuleType) -> None:
    assert [path for path in script.QUICK if not (ROOT / path).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["linux", "macos", "windows"])
def test_it_can_be_installed_beside_autogluon(script: ModuleType, platform: str, tmp_path: Path) -> None:
    """AutoGluon holds peft below 0.20 and, on macOS, PyTorch below 2.11."""
    wanted, solved = tmp_path / "wanted.txt", tmp_path / "solved.txt"
    wanted.write_text("autogluon.timeseries==1.6.3\n.[export,cpu]\n")
    options = ("--no-annotate", "--python-version=3.11", f"--python-platform={platform}")
    script.uv("pip", "compile", *options, wanted, "-o", solved)
    chosen = dict(line.split("==") for line in solved.read_text().splitlines() if "==" in line)
    assert chosen["autogluon-timeseries"] == "1.6.3"
    assert chosen["peft"].startswith("0.19.")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["minimum", "newest"])
def test_the_tests_nearest_to_the_packages_pass(name: str) -> None:
    """With this environment's PyTorch: another one would be gigabytes of CUDA."""
    command = [sys.executable, SCRIPT, name, "--quick", "--pin", f"torch=={version('torch')}"]
    done = subprocess.run(command, env={**os.environ, "PYTEST_ADDOPTS": ""}, check=False)
    assert done.returncode == 0
