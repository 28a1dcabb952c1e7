"""A manifest that was edited, damaged or is newer than we are is not believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chronos_export.artifact.reading import open_artifact
from chronos_export.errors import IntegrityError
from tests.helpers.published import edit_manifest, make


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make(tmp_path / "artifact")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "a/../../secret", "./x", "a//b", "a\\b", ".", "C:x", "a\n"]
)
def test_names_that_leave_the_folder(artifact: Path, name: str) -> None:
    """Even in a manifest whose own hash is right."""
    (artifact.parent / "secret").write_text("secret")
    edit_manifest(artifact, lambda content: content["files"].update({name: content["files"]["model.onnx"]}))
    with pytest.raises(IntegrityError, match="outside"):
        open_artifact(artifact)


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.pop("profiles"),
        lambda m: m.update(profiles=[1]),
        lambda m: m["files"].pop("model.onnx"),
        lambda m: m["files"].update({"new": {"sha256": "0", "bytes": 0}}),
        lambda m: m.update(extra=1),
        lambda m: m.pop("sha256"),
        lambda m: m["validation"].update(passed=False),
    ],
)
def test_edited_manifest(artifact: Path, edit: Callable[[dict[str, object]], object]) -> None:
    file = artifact / "manifest.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        open_artifact(artifact)


def test_newer_schema(artifact: Path) -> None:
    """Whatever else a newer version has put into it, and with a hash we cannot check."""
    file = artifact / "manifest.json"
    content = json.loads(file.read_text()) | {"schema_version": 2, "novelty": {}, "profiles": "all"}
    content["created_by"]["chronos-export"] = "7.8.9"
    file.write_text(json.dumps(content))
    with pytest.raises(IntegrityError) as caught:
        open_artifact(artifact)
    assert "7.8.9" in caught.value.summary
    assert caught.value.fix.startswith("install the chronos-export that wrote it")


@pytest.mark.parametrize("schema", [0, None, "2"])
def test_a_schema_that_no_newer_version_reads(artifact: Path, schema: object) -> None:
    file = artifact / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": schema}))
    with pytest.raises(IntegrityError, match=f"has schema {schema!r}") as caught:
        open_artifact(artifact)
    assert caught.value.fix == "export it again with this version"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "\0"])
def test_manifest_that_is_none(artifact: Path, text: str) -> None:
    (artifact / "manifest.json").write_text(text)
    with pytest.raises(IntegrityError):
        open_artifact(artifact)
