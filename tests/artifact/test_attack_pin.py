"""An artifact that somebody replaced by another, right one: who pinned the first never gets the second."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chronos_export import Forecaster, export, load
from chronos_export.artifact.hashing import FileRecord, hash_file
from chronos_export.artifact.manifest import CallSize, Manifest, read_manifest
from chronos_export.artifact.reading import open_artifact, with_artifact
from chronos_export.errors import IntegrityError, UsageError
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.published import make


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of another checkpoint of the toy's shape."""
    folder = tmp_path_factory.mktemp("other")
    return export(str(make_checkpoint(folder / "checkpoint", seed=1)), output=folder / "artifact").path


@pytest.fixture
def artifact(artifact_of: Callable[[str], Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifact_of("toy").path, tmp_path / "artifact"))


def replace(artifact: Path, other: Path) -> None:
    shutil.rmtree(artifact)
    shutil.copytree(other, artifact)


def test_a_pin_opens_what_was_pinned_and_nothing_else(artifact: Path, other: Path) -> None:
    digest = open_artifact(artifact).digest
    for given in (digest, digest.upper()):
        assert (
            load(artifact, threads=1, digest=given).model(torch.randn(1, 30)).quantile_preds.isfinite().all()
        )
    assert digest in (artifact / "README.md").read_text()
    replace(artifact, other)
    with pytest.raises(IntegrityError, match="is another artifact than the one asked for") as error:
        load(artifact, digest=digest)
    assert open_artifact(other).digest in error.value.summary
    assert error.value.allowed == digest


def pickle_of(opened: Any) -> Any:
    return pickle.loads(pickle.dumps(opened))


@pytest.mark.parametrize("opens", [load, Forecaster])
@pytest.mark.parametrize("copied", [deepcopy, pickle_of])
@pytest.mark.parametrize("pinned", [True, False])
def test_copies_and_pickles_carry_it(
    artifact: Path, other: Path, opens: Any, copied: Any, pinned: bool
) -> None:
    """Whether or not it was asked for: a pickle must not answer with whatever was exported later."""
    opened = opens(artifact, threads=1, digest=open_artifact(artifact).digest if pinned else None)
    again, pickled = copied(copied(opened)), pickle.dumps(opened)
    series = np.sin(np.arange(30, dtype=np.float32))[None, None]
    assert np.array_equal(*(np.asarray(one.predict(series)[0]) for one in (opened, again)))
    replace(artifact, other)
    with pytest.raises(IntegrityError, match="is another artifact"):
        pickle.loads(pickled)
    with pytest.raises(IntegrityError, match="is another artifact"):
        copied(opened)


@pytest.mark.parametrize(
    "digest", ["", "abc", "g" * 64, "a" * 63, " " * 64, "\u0661" * 64, 5, b"a" * 64, True]
)
def test_what_is_no_digest(artifact: Path, digest: Any) -> None:
    with pytest.raises(UsageError, match="digest is"):
        load(artifact, digest=digest)


def test_whatever_is_loaded_is_pinned(tmp_path: Path) -> None:
    """Any change of a file or of an entry is another artifact; only the README's own hash is not pinned."""
    folder = make(tmp_path / "artifact")
    manifest, digest = read_manifest(folder), open_artifact(folder).digest
    changed = FileRecord("0" * 64, 1)
    seen = {digest}
    for name in manifest.files.keys() - {"README.md"}:
        seen.add(dataclasses.replace(manifest, files={**manifest.files, name: changed}).digest)
    seen.add(dataclasses.replace(manifest, files={**manifest.files, "new": changed}).digest)
    for entry, value in {
        "profiles": [1],
        "dtype": "int8",
        "engines": [{"path": "a"}],
        "call_size": CallSize(tokens=1),
        "checkpoint": dataclasses.replace(manifest.checkpoint, digest="0" * 64),
        "config": dataclasses.replace(manifest.config, d_model=7),
        "validation": {},
        "created_by": {},
    }.items():
        seen.add(dataclasses.replace(manifest, **{entry: value}).digest)
    assert len(seen) == len(manifest.files) - 1 + 1 + 8 + 1
    assert dataclasses.replace(manifest, files={**manifest.files, "README.md": changed}).digest == digest


def test_nothing_but_the_manifest_is_looked_at_before_the_pin(tmp_path: Path) -> None:
    folder = make(tmp_path / "artifact")
    used: list[Manifest] = []
    (folder / "model.onnx").write_bytes(b"altered")
    with pytest.raises(IntegrityError, match="is another artifact"):
        with_artifact(folder, lambda artifact: used.append(artifact.manifest), digest="0" * 64)
    assert used == []


def test_a_forged_manifest_does_not_pass(tmp_path: Path) -> None:
    """The attacker has the folder, and makes every hash right."""
    folder = make(tmp_path / "artifact")
    digest = open_artifact(folder).digest
    (folder / "model.onnx").write_bytes(b"evil")
    manifest = read_manifest(folder)
    files = {**manifest.files, "model.onnx": hash_file(folder / "model.onnx")}
    dataclasses.replace(manifest, files=files).write(folder)
    open_artifact(folder)
    with pytest.raises(IntegrityError, match="is another artifact"):
        with_artifact(folder, lambda artifact: artifact, digest=digest)
