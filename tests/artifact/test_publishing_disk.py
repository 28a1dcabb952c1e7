"""Publishing onto full and forbidden disks: exit code 3, one message, nothing left behind."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from chronos_export.errors import MachineError
from tests.helpers.published import make

FILL_THE_DISK = """
import sys
from pathlib import Path
from chronos_export.errors import MachineError
from chronos_export.artifact.publishing import publish
try:
    with publish(Path(sys.argv[1]) / "artifact") as staging:
        try:
            for part in range(9):
                (staging.folder / str(part)).write_bytes(bytes(300_000))
        except OSError as error:
            raise RuntimeError("onnx could not save the model") from error
except MachineError as error:
    print(error)
    sys.exit(3)
"""


def test_disk_full(tmp_path: Path) -> None:
    """A disk of 1 MB, in a namespace of our own where that is allowed."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk; test_file_size_limit covers the handling")
    inside = f'{mount} && "$@"; status=$?; ls -A {tmp_path}; exit $status'
    command = ["sh", "-c", inside, "sh", sys.executable, "-c", FILL_THE_DISK, str(tmp_path)]
    done = subprocess.run(["unshare", "-rm", *command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "")
    message, left = done.stdout.splitlines(), done.stdout.splitlines()[3:]
    assert "full" in message[0]
    assert left == []


def test_file_size_limit(tmp_path: Path) -> None:
    """The same handling where no disk can be mounted: no file may grow past 100 kB."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, str(tmp_path)],
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
