"""The Polygraphy command lines of the README that need no GPU, on the demo checkpoint's own graph."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chronos_export.checkpoint import load_checkpoint
from chronos_export.exporting import POLYGRAPHY, write_graphs
from chronos_export.precision import precision_of
from engines import needs_rtx

README = (Path(__file__).parents[1] / "README.md").read_text()


def readme_line(begin: str) -> str:
    """The one command of the README that begins so, its lines joined, without `begin`."""
    (line,) = re.findall(rf"^{re.escape(begin)} ((?:.*\\\n)*.*)$", README, re.MULTILINE)
    return line.replace("\\\n", " ")


CONVERT = "convert " + readme_line("python -m chronos_export.trt_polygraphy convert")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    write_graphs(load_checkpoint("demo"), folder, precision_of("float32"))
    return folder


def polygraphy(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chronos_export.trt_polygraphy", *line.split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


@needs_rtx
def test_convert(graphs: Path) -> None:
    """The plan names the plugin once a block: `num_heads` is one of its serialized fields."""
    done = polygraphy(graphs, CONVERT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (graphs / "model.plan").read_bytes().count(b"num_heads") > 1


def test_run_is_what_an_artifact_says() -> None:
    """Its own README names it too, and there it is run: test_validate."""
    assert f"polygraphy run {readme_line('polygraphy run')}" == POLYGRAPHY.format(60)


@needs_rtx
def test_inspect(graphs: Path) -> None:
    done = polygraphy(graphs, "inspect model model.onnx --show layers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GroupAttention" in done.stdout


@needs_rtx
def test_a_failure_is_an_exit_code(graphs: Path) -> None:
    assert polygraphy(graphs, CONVERT.replace("8.6", "3.0")).returncode != 0
