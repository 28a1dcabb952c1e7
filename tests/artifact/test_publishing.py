"""Publishing: all of an artifact or none of it, in place of nothing but an artifact, one build at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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


ONE_AT_A_TIME = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.helpers.published import fill
from chronos_export.errors import UsageError
from chronos_export.artifact.publishing import publish
destination, done = Path(sys.argv[1]), 0
while done < 20:
    try:
        with publish(destination, overwrite=True) as staging:
            (destination.parent / "only me").mkdir()  # raises where somebody else is in here
            staging.manifest = fill(staging.folder, 1)
            (destination.parent / "only me").rmdir()
            done += 1
    except UsageError as error:
        assert "is being built by" in error.summary, error
"""


def test_builds_that_come_and_go(tmp_path: Path) -> None:
    """Each removes its lock file on the way out, while others wait for that very file."""
    command = [sys.executable, "-c", ONE_AT_A_TIME, str(tmp_path / "artifact"), str(Path(__file__).parent)]
    builds = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for build in builds:
        _, problem = build.communicate(timeout=120)
        assert build.returncode == 0, problem
    assert [file.name for file in tmp_path.iterdir()] == ["artifact"]


def test_ctrl_c_leaves_nothing(artifact: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGINT)
    holder.wait(timeout=30)
    assert generation_of(artifact) == 1
    assert [file.name for file in artifact.parent.iterdir()] == ["artifact"]
