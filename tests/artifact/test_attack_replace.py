"""`--force` where somebody else's files are: only an artifact of ours is ever replaced, and never lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chronos_export.artifact import replacing
from chronos_export.artifact.publishing import publish
from chronos_export.errors import UsageError
from tests.helpers.published import fill, generation_of, make


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make(tmp_path / "artifact")


def tree(folder: Path) -> dict[str, str]:
    """Every name in a folder, with its content."""
    return {str(path): path.read_text() if path.is_file() else "" for path in folder.rglob("*")}


WEB_APP = {"name": "shop", "icons": [], "start_url": "/", "display": "standalone"}
ALMOST_OURS = {
    "schema_version": 1,
    "files": {},
    "sha256": "0" * 64,
    "created_by": {"chronos-export": "0.1.0"},
}


@pytest.mark.parametrize("content", [json.dumps(WEB_APP), json.dumps(ALMOST_OURS), "{}", "", "[", "\0"])
def test_a_folder_with_somebody_elses_manifest(tmp_path: Path, content: str) -> None:
    """Web apps, browser extensions and many tools have a manifest.json too."""
    app = tmp_path / "app"
    (app / "src").mkdir(parents=True)
    (app / "manifest.json").write_text(content)
    (app / "src" / "index.js").write_text("years of work")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="not an artifact"):
        make(app, overwrite=True)
    assert tree(tmp_path) == before


PLANT: dict[str, Callable[[Path], object]] = {
    "a file": lambda folder: (folder / "thesis.tex").write_text("years of work"),
    "a hidden file": lambda folder: (folder / ".env").write_text("years of work"),
    "a file in a folder of ours": lambda folder: (folder / "validation" / "mine.csv").write_text("years"),
    "an empty folder": lambda folder: (folder / "plans").mkdir(),
    "a folder": lambda folder: ((folder / "plans").mkdir(), (folder / "plans" / "a").write_text("b")),
    "a link to a folder": lambda folder: (folder / "link").symlink_to("/etc"),
    "a dangling link": lambda folder: (folder / "link").symlink_to("/nowhere"),
}


@pytest.mark.parametrize("what", PLANT)
def test_an_artifact_with_more_in_it(artifact: Path, what: str) -> None:
    PLANT[what](artifact)
    before = tree(artifact.parent)
    with pytest.raises(UsageError, match=r"manifest\.json does not list") as error:
        make(artifact, 2, overwrite=True)
    assert tree(artifact.parent) == before
    assert "-o " in error.value.fix


def test_a_damaged_artifact_is_replaced(artifact: Path) -> None:
    """That is what --force is for."""
    (artifact / "model.onnx").write_bytes(b"flipped")
    (artifact / "validation" / "inputs.json").unlink()
    make(artifact, 2, overwrite=True)
    assert generation_of(artifact) == 2


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot swap two names: NFS, FUSE, most that are not Linux's own."""
    monkeypatch.setattr(replacing, "_exchange", lambda one, other: False)


@pytest.mark.parametrize("exchange", [True, False])
def test_what_comes_in_at_the_last_moment(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    """Between the last check and the renaming, somebody saves a file into the old artifact."""
    if not exchange:
        without_exchange(monkeypatch)
    rename = replacing._exchange

    def late(one: Path, other: Path) -> bool:
        (other / "thesis.tex").write_text("years of work")
        return rename(one, other)

    monkeypatch.setattr(replacing, "_exchange", late)
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        make(artifact, 2, overwrite=True)
    assert (artifact / "thesis.tex").read_text() == "years of work"
    (artifact / "thesis.tex").unlink()
    assert generation_of(artifact) == 1
    assert [file.name for file in artifact.parent.iterdir()] == ["artifact"]


def test_without_an_exchange_the_old_one_is_put_back(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two renames fails, as on a share that goes away for a moment."""
    without_exchange(monkeypatch)
    rename = Path.rename

    def fails_once(self: Path, target: Path) -> Path:
        if ".staging." in self.name:
            raise OSError(5, "input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(OSError, match="input/output"):
        make(artifact, 2, overwrite=True)
    assert generation_of(artifact) == 1
    assert [file.name for file in artifact.parent.iterdir()] == ["artifact"]


def test_without_an_exchange(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_exchange(monkeypatch)
    make(artifact, 2, overwrite=True)
    assert generation_of(artifact) == 2
    assert [file.name for file in artifact.parent.iterdir()] == ["artifact"]


KILL_WITHOUT_EXCHANGE = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.helpers.published import generation_of, make
from chronos_export.artifact import replacing
replacing._exchange = lambda one, other: False

destination = Path(sys.argv[1])
make(destination, 1)
outcomes = set()
for step in range(10_000):
    child = os.fork()
    if child == 0:
        left = step
        def count(event, arguments):
            global left
            if event in ("os.rename", "os.rmdir", "os.remove", "shutil.rmtree"):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        make(destination, 2, overwrite=True)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    there = destination.exists()
    outcomes.add(generation_of(destination if there else destination.with_name(".artifact.old")))
    if not killed:
        break
    try:
        make(destination, 3)  # without --force: whatever is there is told, and is back in its place
    except Exception as error:
        assert "exists" in str(error), error
    assert generation_of(destination) in (1, 2)
    make(destination, 1, overwrite=True)
    assert [file.name for file in destination.parent.iterdir()] == ["artifact"]
print(step, sorted(outcomes))
"""


def test_killed_without_an_exchange(tmp_path: Path) -> None:
    """At every step the old artifact or the new one is on the disk, and the next build finds it."""
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", KILL_WITHOUT_EXCHANGE, str(tmp_path / "artifact"), here],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    steps, outcomes = done.stdout.split(maxsplit=1)
    assert int(steps) > 5
    assert outcomes.strip() == "[1, 2]"


@pytest.mark.parametrize("there", [True, False])
def test_the_lock_as_a_link(artifact: Path, tmp_path: Path, there: bool) -> None:
    """In a folder that others may write to, a link there would have us write to a file of their choice."""
    victim = tmp_path / "elsewhere"
    if there:
        victim.write_text("years of work")
    (tmp_path / ".artifact.lock").symlink_to(victim)
    with pytest.raises(UsageError, match="is a link") as error:
        make(artifact, 2, overwrite=True)
    assert (victim.read_text() if there else victim.exists()) == ("years of work" if there else False)
    assert str(tmp_path / ".artifact.lock") in error.value.fix
    assert generation_of(artifact) == 1


@pytest.mark.parametrize("name", [f".artifact.staging.{os.getpid()}", ".artifact.staging.1"])
def test_a_staging_folder_as_a_link(artifact: Path, tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    (tmp_path / name).symlink_to(home)
    make(artifact, 2, overwrite=True)
    assert tree(home) == {f"{home}/thesis.tex": "years of work"}
    assert generation_of(artifact) == 2


def test_names_beside_the_artifact_are_not_ours(artifact: Path) -> None:
    """`.failed` of a run before, or of somebody's own, is kept."""
    for name in ("artifact.failed", ".artifact.staging", ".artifact.staging.mine", ".artifactxstaging.1"):
        (artifact.parent / name).mkdir()
        (artifact.parent / name / "thesis.tex").write_text("years of work")
    before = tree(artifact.parent)
    with (
        pytest.raises(RuntimeError),
        publish(artifact, overwrite=True, keep_failed=True) as staging,
    ):
        fill(staging.folder, 2)
        raise RuntimeError
    after = tree(artifact.parent)
    assert {name: after[name] for name in before} == before
    assert (artifact.parent / "artifact.failed-2" / "model.onnx").exists()
