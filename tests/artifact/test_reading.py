"""Opening: an artifact is what was published, and nothing altered is ever opened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chronos_export.artifact.manifest import read_manifest
from chronos_export.artifact.reading import open_artifact
from chronos_export.errors import IntegrityError
from tests.helpers.published import MANIFEST, generation_of, make


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make(tmp_path / "artifact")


def test_published_and_opened(artifact: Path) -> None:
    opened = open_artifact(artifact)
    assert opened.manifest == read_manifest(artifact)
    assert opened.manifest.profiles == MANIFEST.profiles
    assert opened.manifest.validation == MANIFEST.validation
    assert set(opened.manifest.files) == {"README.md", "model.onnx", "validation/inputs.json"}
    assert opened.manifest.created_by["chronos-export"]
    assert generation_of(artifact) == 1
    assert [file.name for file in artifact.parent.iterdir()] == ["artifact"]


def test_file_not_in_the_manifest_is_not_given(artifact: Path) -> None:
    (artifact / "extra.onnx").write_text("planted")
    opened = open_artifact(artifact)
    for name in ("extra.onnx", "manifest.json", "../artifact/model.onnx", "/etc/passwd"):
        with pytest.raises(IntegrityError, match="not in the manifest"):
            opened.file(name)


SPOIL: dict[str, Callable[[Path], object]] = {
    "flipped": lambda f: f.write_bytes(bytes([f.read_bytes()[0] ^ 1]) + f.read_bytes()[1:]),
    "truncated": lambda f: f.write_bytes(f.read_bytes()[:-1]),
    "extended": lambda f: f.write_bytes(f.read_bytes() + b"\0"),
    "emptied": lambda f: f.write_bytes(b""),
    "removed": lambda f: f.unlink(),
    "a folder": lambda f: (f.unlink(), f.mkdir()),
}


@pytest.mark.parametrize("name", ["model.onnx", "validation/inputs.json", "README.md", "manifest.json"])
@pytest.mark.parametrize("how", SPOIL)
def test_spoiled_file(artifact: Path, name: str, how: str) -> None:
    SPOIL[how](artifact / name)
    with pytest.raises(IntegrityError) as caught:
        open_artifact(artifact)
    assert name in caught.value.summary
    rebuild = f"chronos-export --model demo --batch 100,2000 --dtype float32 -o {artifact} --force"
    assert name == "manifest.json" or caught.value.fix == rebuild


def test_linked_file(artifact: Path, tmp_path: Path) -> None:
    """The right bytes behind a link can be swapped after the check, so a link is refused."""
    for name in ("model.onnx", "manifest.json"):
        outside = tmp_path / "outside"
        shutil.move(artifact / name, outside)
        (artifact / name).symlink_to(outside)
        with pytest.raises(IntegrityError, match=name):
            open_artifact(artifact)
        (artifact / name).unlink()
        shutil.move(outside, artifact / name)
    shutil.move(artifact / "validation", tmp_path / "outside")
    (artifact / "validation").symlink_to(tmp_path / "outside")
    with pytest.raises(IntegrityError, match="link"):
        open_artifact(artifact)
