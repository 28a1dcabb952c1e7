"""The Polygraphy command lines of the documents that need no GPU, on the demo checkpoint's own graph."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.exporting.export import POLYGRAPHY, write_graphs
from chronos_export.graph.precision import precision_of
from tests.helpers.engines import needs_rtx

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "tensorrt.md").read_text() + (DOCS / "accuracy.md").read_text()


def documented(begin: str) -> str:
    """The one command of the documents that begins so, its lines joined, without `begin`."""
    (line,) = re.findall(rf"^{re.escape(begin)} ((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)
    return line.replace("\\\n", " ")


CONVERT = "convert " + documented("python -m chronos_export.validation.polygraphy_tensorrt convert")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    write_graphs(load_checkpoint("demo"), folder, precision_of("float32"))
    return folder


def polygraphy(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chronos_export.validation.polygraphy_tensorrt", *line.split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


@needs_rtx
def test_convert(graphs: Path) -> None:
    """The plan names the plugin once a block: `num_heads` is one of its serialized fields."""
    done = polygraphy(graphs, CONVERT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (graphs / "model.plan").read_bytes().count(b"num_heads") > 1


def test_run_is_what_an_artifact_says() -> None:
    """Its own README names it too, and there it is run: test_validate."""
    assert f"polygraphy run {documented('polygraphy run')}" == POLYGRAPHY.format(60)


@needs_rtx
def test_inspect(graphs: Path) -> None:
    done = polygraphy(graphs, "inspect model model.onnx --show layers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GroupAttention" in done.stdout


@needs_rtx
def test_a_failure_is_an_exit_code(graphs: Path) -> None:
    assert polygraphy(graphs, CONVERT.replace("8.6", "3.0")).returncode != 0
