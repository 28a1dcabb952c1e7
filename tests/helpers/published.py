"""Artifacts of small files, of generations that can be told apart, for tests of publishing and opening."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from chronos_export.artifact.manifest import Manifest
from chronos_export.artifact.publishing import publish
from chronos_export.artifact.reading import open_artifact

MANIFEST = Manifest(
    checkpoint={"source": "demo", "revision": None, "digest": "d" * 64, "licence": "apache-2.0"},
    config={"d_model": 6},
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
    return dataclasses.replace(MANIFEST, config={"generation": generation})


def make(destination: Path, generation: int = 1, **options: bool) -> Path:
    with publish(destination, **options) as staging:
        staging.manifest = fill(staging.folder, generation)
    return destination


def generation_of(path: Path) -> int:
    """Open a published artifact and hold its parts against each other."""
    artifact = open_artifact(path)
    generation = int(artifact.manifest.config["generation"])
    assert artifact.file("model.onnx").read_bytes() == b"%d" % generation * 1000
    assert artifact.file("validation/inputs.json").read_text() == f"[{generation}]"
    return generation
