"""What is named where an artifact is meant, and the advice that helps."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from chronos_export import load
from chronos_export.artifact.mistaken import mistaken
from chronos_export.artifact.reading import open_artifact
from chronos_export.errors import ChronosExportError, IntegrityError, UsageError
from tests.helpers.published import make


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Relative paths begin here."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refused(given: Path | str) -> ChronosExportError:
    with pytest.raises(ChronosExportError) as caught:
        open_artifact(given)
    return caught.value


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ("my own", "chronos-export --model SRC -o 'my own'"),
        ("some/model", "chronos-export --model some/model -o model"),
        ("../here/mine", "chronos-export --model SRC -o ../here/mine"),
    ],
)
def test_what_is_not_there(given: str, fix: str) -> None:
    """A model of the hub is exported first; a path that only lacks its last part is a path."""
    error = refused(given)
    assert isinstance(error, UsageError)
    assert (error.summary, error.fix) == (f"there is no folder {given}", fix)


def test_a_typo_finds_what_was_meant() -> None:
    make(Path("chronos-2-b100"))
    make(Path("my finetune"))
    shutil.copytree("chronos-2-b100", ".chronos-2-b101.staging")
    Path("web-app").mkdir()
    Path("web-app", "manifest.json").write_text('{"name": "an app"}')
    assert refused("chronos-2-b1000").fix == "did you mean chronos-2-b100 ?"
    assert refused("../here/my-finetune").fix == "did you mean '../here/my finetune' ?"
    other = refused("nothing-like-it")
    assert (other.allowed, other.fix) == ("chronos-2-b100, my finetune", "name one of these")
    inside = refused(".")
    assert isinstance(inside, UsageError)
    assert ". is not an artifact, but holds chronos-2-b100, my finetune" in inside.summary
    assert inside.fix == "did you mean chronos-2-b100 ?"


def test_a_file() -> None:
    artifact = make(Path("artifact"))
    error = refused(artifact / "model.onnx")
    assert isinstance(error, UsageError)
    assert (error.summary, error.fix) == ("artifact/model.onnx is a file", "name the folder: artifact")


@pytest.mark.parametrize("source", ["toy", "adapter"])
def test_a_checkpoint_is_exported_first(source: str, request: pytest.FixtureRequest) -> None:
    folder = Path(shutil.copytree(request.getfixturevalue(source), "my model"))
    with pytest.raises(UsageError, match="is a checkpoint, not an artifact") as caught:
        load(folder)
    assert caught.value.fix == "chronos-export --model 'my model' -o 'my model-exported'"


def test_a_folder_of_something_else() -> None:
    error = refused(".")
    assert isinstance(error, IntegrityError)
    assert "it is not an artifact" in error.summary


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "validation"])
def test_links_of_a_cache(tmp_path: Path, name: str) -> None:
    """As huggingface_hub and DVC store files; the copy that is advised can be opened."""
    artifact = make(Path("artifact"))
    shutil.move(artifact / name, tmp_path / "blob")
    (artifact / name).symlink_to(tmp_path / "blob")
    error = refused(artifact)
    assert isinstance(error, IntegrityError)
    assert "is a link, not a file of the artifact" in error.summary
    assert error.fix == "cp -rL artifact artifact-copy"
    assert os.system(error.fix) == 0
    open_artifact("artifact-copy")


def test_many_artifacts_are_not_all_listed() -> None:
    for number in range(8):
        make(Path(f"artifact{number}"))
    assert mistaken(Path("zzz")).allowed.endswith("artifact4 and 3 more")
