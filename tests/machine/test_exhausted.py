"""Out of memory, or of threads: told as that, whatever a library made of it."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from chronos_export import export
from chronos_export.errors import IntegrityError, MachineError
from chronos_export.machine.exhausted import exhausted
from chronos_export.runtime.onnxruntime_session import OrtSession


def caused(error: Exception) -> Exception:
    """An error of ours that came from another one."""
    try:
        raise IntegrityError("x cannot be read", fix="fetch it again") from error
    except IntegrityError as ours:
        return ours


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (MemoryError(), "memory"),
        (caused(MemoryError("Unable to allocate 2 GiB")), "memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "memory"),
        (RuntimeError("std::bad_alloc"), "memory"),
        (RuntimeError("can't start new thread"), "threads"),
        (caused(OSError(errno.EAGAIN, "Resource temporarily unavailable")), "threads"),
    ],
)
def test_it_is_told_by_what_is_missing(error: Exception, what: str) -> None:
    found = exhausted(error)
    assert found is not None
    assert found.exit_code == 3
    assert f"this machine has no {what} left" in found.summary


@pytest.mark.parametrize(
    "error", [ValueError("out of memory"), RuntimeError("shape"), IntegrityError("altered"), None]
)
def test_other_errors_stay_what_they_are(error: Exception | None) -> None:
    assert exhausted(error) is None


def test_a_proof_that_runs_out_of_memory_blames_the_machine(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*given: object) -> object:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 8589934592")

    monkeypatch.setattr(OrtSession, "run", run)
    with pytest.raises(MachineError, match="no memory left: Failed to allocate memory"):
        export(str(toy), output=tmp_path / "artifact")
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
import torch, onnx, onnxruntime, chronos, polygraphy, chronos_export.exporting.export
from chronos_export.cli.main import main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 20 * 2**20,) * 2)
main(["--model", sys.argv[1], "--quiet", "-o", "artifact"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process by Linux's means")
def test_a_command_that_runs_out_of_memory(toy: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(toy)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 3, done.stderr
    assert "error: this machine has no " in done.stderr
    assert not (tmp_path / "artifact").exists()
