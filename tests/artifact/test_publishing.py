"""Publishing: all of an artifact or none of it, in place of nothing but an artifact, one build at a time."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from chronos_export.artifact import publishing
from chronos_export.artifact.publishing import publish
from chronos_export.artifact.reading import open_artifact
from chronos_export.errors import BuildError, IntegrityError, UsageError
from tests.helpers.published import fill, generation_of, make


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make(tmp_path / "artifact")


def test_existing_destination(artifact: Path) -> None:
    with pytest.raises(UsageError, match="exists") as caught:
        make(artifact, 2)
    assert "--force" in caught.value.fix
    assert generation_of(artifact) == 1
    make(artifact, 2, overwrite=True)
    assert generation_of(artifact) == 2
    assert [file.name for file in artifact.parent.iterdir()] == ["artifact"]


def test_force_replaces_only_artifacts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not an artifact"):
        make(home, overwrite=True)
    with pytest.raises(UsageError, match="is a file"):
        make(home / "thesis.tex", overwrite=True)
    assert (home / "thesis.tex").read_text() == "years of work"


def test_no_parent_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder") as caught:
        make(tmp_path / "a" / "b")
    assert caught.value.fix == f"mkdir -p {tmp_path / 'a'}"


def test_without_a_swap_the_old_one_goes_first(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_exchange", lambda one, other: False)
    make(artifact, 2, overwrite=True)
    assert generation_of(artifact) == 2


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("keep", [False, True])
def test_a_failure_publishes_nothing(artifact: Path, error: BaseException, keep: bool) -> None:
    with pytest.raises(type(error)), publish(artifact, overwrite=True, keep_failed=keep) as staging:
        fill(staging.folder, 2)
        raise error
    assert generation_of(artifact) == 1
    kept = keep and isinstance(error, Exception)
    assert {f.name for f in artifact.parent.iterdir()} == {"artifact"} | (
        {"artifact.failed"} if kept else set()
    )
    if kept:
        assert (artifact.parent / "artifact.failed" / "model.onnx").exists()
        with pytest.raises(IntegrityError):
            open_artifact(artifact.parent / "artifact.failed")


def test_no_manifest_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(BuildError), publish(tmp_path / "artifact") as staging:
        fill(staging.folder)
    assert not list(tmp_path.iterdir())


def test_a_destination_made_meanwhile_is_kept(tmp_path: Path) -> None:
    destination = tmp_path / "artifact"
    with pytest.raises(UsageError, match="exists"), publish(destination) as staging:
        staging.manifest = fill(staging.folder)
        destination.mkdir()
        (destination / "thesis.tex").write_text("years of work")
    assert [file.name for file in tmp_path.rglob("*")] == ["artifact", "thesis.tex"]


HOLDER = """
import sys, time
from chronos_export.artifact.publishing import publish
with publish(sys.argv[1], overwrite=True) as staging:
    (staging.folder / "half").write_text("half")
    print("building", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(artifact: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of building the same artifact."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(artifact)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_two_builds_exclude_each_other(artifact: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(UsageError, match=f"process {holder.pid}"):
        make(artifact, 2, overwrite=True)
    make(artifact.parent / "another", 3)
    holder.kill()
    holder.wait()
    make(artifact, 2, overwrite=True)
    assert generation_of(artifact) == 2
    assert {file.name for file in artifact.parent.iterdir()} == {"artifact", "another"}


def test_lock_removed_while_it_was_waited_for(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """We lock the file of a build that just ended, and a third build has made a new one: ours is void."""
    file = artifact.parent / ".artifact.lock"
    third = []

    def flock(handle: int, how: int) -> None:
        if not third:
            file.unlink()
            third.append(file.open("w+"))
            fcntl.flock(third[0], how)
            third[0].write("4711")
            third[0].flush()
        else:
            fcntl.flock(handle, how)

    monkeypatch.setattr(publishing, "fcntl", SimpleNamespace(flock=flock, LOCK_EX=2, LOCK_NB=4))
    with pytest.raises(UsageError, match="process 4711"):
        make(artifact, 2, overwrite=True)
    third[0].close()


def test_ctrl_c_leaves_nothing(artifact: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGINT)
    holder.wait(timeout=30)
    assert generation_of(artifact) == 1
    assert [file.name for file in artifact.parent.iterdir()] == ["artifact"]
