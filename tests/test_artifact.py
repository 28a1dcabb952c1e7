"""Publishing and opening: all of an artifact or none of it, and nothing altered is ever opened."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from chronos_export import publish as publishing
from chronos_export.artifact import open_artifact
from chronos_export.errors import BuildError, IntegrityError, MachineError, UsageError
from chronos_export.manifest import Manifest, read_manifest
from chronos_export.publish import publish

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


def test_readme_says_what_the_manifest_says(artifact: Path) -> None:
    text = (artifact / "README.md").read_text()
    for said in (
        "`demo`",
        "apache-2.0",
        "d" * 64,
        "100, 2000",
        "1.25e-06",
        "| a\\|b | 1e-06 |",
        "polygraphy run",
    ):
        assert said in text, said


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
    assert str(artifact) in caught.value.fix


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


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "./x", "a//b", "a\\b", "."])
def test_names_that_leave_the_folder(artifact: Path, name: str) -> None:
    """Even in a manifest whose own hash is right."""
    (artifact.parent / "secret").write_text("secret")
    manifest = read_manifest(artifact)
    record = manifest.files["model.onnx"]
    dataclasses.replace(manifest, files={**manifest.files, name: record}).write(artifact)
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
    assert caught.value.fix == "pip install --upgrade 'chronos-export>=7.8.9'"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "\0"])
def test_manifest_that_is_none(artifact: Path, text: str) -> None:
    (artifact / "manifest.json").write_text(text)
    with pytest.raises(IntegrityError):
        open_artifact(artifact)


def test_open_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        open_artifact(tmp_path / "nothing")
    with pytest.raises(IntegrityError, match="not an artifact"):
        open_artifact(tmp_path)


# --- publishing ---


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
from chronos_export.publish import publish
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


KILL_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_artifact import generation_of, make

destination = Path(sys.argv[1])
make(destination, 1)
outcomes = set()
for step in range(10_000):
    child = os.fork()
    if child == 0:
        left = step
        def count(event, arguments):
            global left
            if event != "os.kill" and event.startswith(("os.", "open", "shutil.", "ctypes.", "fcntl.")):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        make(destination, 2, overwrite=True)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    outcomes.add(generation_of(destination))
    if not killed:
        break
    make(destination, 1, overwrite=True)  # over what the dead one left
    assert [file.name for file in destination.parent.iterdir()] == ["artifact"]
print(step, sorted(outcomes))
"""


def test_killed_at_every_step_of_publishing(tmp_path: Path) -> None:
    """Killed before each call that touches the disk: the old artifact, then the new one; never a mixture."""
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", KILL_AT_EVERY_STEP, str(tmp_path / "artifact"), here],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    steps, outcomes = done.stdout.split(maxsplit=1)
    assert int(steps) > 20
    assert outcomes.strip() == "[1, 2]"


PUBLISH_FOREVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_artifact import make
generation = 1
while True:
    generation = generation % 9 + 1
    make(Path(sys.argv[1]), generation, overwrite=True)
    print(generation, flush=True)
"""


def test_killed_at_random_moments(tmp_path: Path) -> None:
    destination, rng = tmp_path / "artifact", random.Random(0)
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", PUBLISH_FOREVER, str(destination), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
        generation_of(destination)


# --- full and forbidden disks ---

FILL_THE_DISK = """
import sys
from pathlib import Path
from chronos_export.errors import MachineError
from chronos_export.publish import publish
try:
    with publish(Path(sys.argv[1]) / "artifact", needs=int(sys.argv[2])) as staging:
        try:
            for part in range(9):
                (staging.folder / str(part)).write_bytes(bytes(300_000))
        except OSError as error:
            raise RuntimeError("onnx could not save the model") from error
except MachineError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.parametrize("needs", [0, 5_000_000])
def test_disk_full(tmp_path: Path, needs: int) -> None:
    """A disk of 1 MB, in a namespace of our own where that is allowed."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk; test_file_size_limit covers the handling")
    inside = f'{mount} && "$@"; status=$?; ls -A {tmp_path}; exit $status'
    command = ["sh", "-c", inside, "sh", sys.executable, "-c", FILL_THE_DISK, str(tmp_path), str(needs)]
    done = subprocess.run(["unshare", "-rm", *command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "")
    message, left = done.stdout.splitlines(), done.stdout.splitlines()[3:]
    assert "full" in message[0]
    assert ("5.0 MB are needed" in message[0]) == bool(needs)
    assert left == []


def test_file_size_limit(tmp_path: Path) -> None:
    """The same handling where no disk can be mounted: no file may grow past 100 kB."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path), "0"],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert not list(tmp_path.iterdir())


def test_not_writable() -> None:
    """Tried as a user who may not write there, since root may write anywhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        me = os.geteuid()
        try:
            if me == 0:
                os.seteuid(65534)
            with pytest.raises(MachineError, match="cannot be written"):
                make(folder / "artifact")
        finally:
            if me == 0:
                os.seteuid(0)
        assert not list(folder.iterdir())
        folder.chmod(0o755)
