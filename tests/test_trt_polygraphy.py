"""The Polygraphy command lines of the README that need no GPU, on the demo checkpoint's own graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chronos_export.checkpoint import load_checkpoint
from chronos_export.exporting import write_graphs
from chronos_export.precision import precision_of
from cpp import needs_rtx

CONVERT = """
convert model.onnx --convert-to trt -o model.plan --compute-capabilities 8.6
    --trt-min-shapes context:[100,1] group_ids:[100] future_covariates:[100,1]
    --trt-opt-shapes context:[100,512] group_ids:[100] future_covariates:[100,64]
    --trt-max-shapes context:[100,512] group_ids:[100] future_covariates:[100,64]
"""


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


@needs_rtx
def test_inspect(graphs: Path) -> None:
    done = polygraphy(graphs, "inspect model model.onnx --show layers")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GroupAttention" in done.stdout


@needs_rtx
def test_a_failure_is_an_exit_code(graphs: Path) -> None:
    assert polygraphy(graphs, CONVERT.replace("8.6", "3.0")).returncode != 0
