"""Artifacts of small files, of generations that can be told apart, for tests of publishing and opening."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from chronos_export.artifact.manifest import NAME, MadeFrom, Manifest
from chronos_export.artifact.model_config import ForecastConfig, ModelConfig
from chronos_export.artifact.publishing import publish
from chronos_export.artifact.reading import open_artifact

CONFIG = ModelConfig(
    ForecastConfig(
        context_length=512,
        input_patch_size=16,
        input_patch_stride=16,
        output_patch_size=16,
        quantiles=(0.1, 0.5, 0.9),
        time_encoding_scale=512,
    )
)
MANIFEST = Manifest(
    checkpoint=MadeFrom("demo", revision=None, digest="d" * 64, licence="apache-2.0"),
    config=CONFIG,
    dtype="float32",
    profiles=[100, 2000],
    validation={
        "passed": True,
        "worst error": 1.25e-6,
        "worst": {"ort": {"case": "long", "limit": 3e-5, "by quantile": [1, 2]}},
        "cases": [{"case": "a|b", "error": 1e-6}, {"case": "c", "error": 2e-6}],
        "commands": ["polygraphy run model.onnx"],
    },
)


def fill(folder: Path, generation: int = 1) -> Manifest:
    (folder / "validation").mkdir()
    (folder / "model.onnx").write_bytes(b"%d" % generation * 1000)
    (folder / "validation" / "inputs.json").write_text(f"[{generation}]")
    return dataclasses.replace(MANIFEST, config=dataclasses.replace(CONFIG, num_layers=generation))


def make(destination: Path, generation: int = 1, **options: bool) -> Path:
    with publish(destination, **options) as staging:
        staging.manifest = fill(staging.folder, generation)
    return destination


def generation_of(path: Path) -> int:
    """Open a published artifact and hold its parts against each other."""
    artifact = open_artifact(path)
    generation = artifact.manifest.config.num_layers
    assert artifact.file("model.onnx").read_bytes() == b"%d" % generation * 1000
    assert artifact.file("validation/inputs.json").read_text() == f"[{generation}]"
    return generation


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Change a published manifest and make its hash of itself right again, as whoever owns the folder can."""
    file = folder / NAME
    content = json.loads(file.read_text())
    del content["sha256"]
    edit(content)
    own_hash = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps({**content, "sha256": own_hash}))
    return folder


def printed_commands(folder: Path) -> list[str]:
    """The lines for a shell in the README of an artifact."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (folder / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def run_printed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line for a shell in an artifact, with the tools that are installed beside Python."""
    name, *arguments = shlex.split(command)
    tool = shutil.which(name, path=str(Path(sys.executable).parent))
    assert tool is not None, f"there is no {name}"
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in conftest.py
    return subprocess.run([tool, *arguments], cwd=folder, env=one_thread, capture_output=True, text=True)


def copy_without_restored_order(artifact: Path, folder: Path) -> Path:
    """A copy whose general graph leaves the forecasts in sorted order."""
    shutil.copytree(artifact, folder)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "Gather" and node.output[0] == "quantile_preds":
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder
