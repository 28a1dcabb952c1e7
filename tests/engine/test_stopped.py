"""A build of an engine that is stopped: promptly, and nothing is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.helpers.engines import make_graph, needs_rtx

pytestmark = needs_rtx


@pytest.fixture
def slow_build(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that has begun to build an engine, which takes it 10 s or more."""
    make_graph(tmp_path / "model.onnx", blocks=60, product=True)
    script = f"""
        from pathlib import Path
        from chronos_export.engine.building import build_engine
        folder = Path({str(tmp_path)!r})
        seen = lambda event: print(event.message, flush=True)
        build_engine(folder / "model.onnx", list(range(1, 9)), runtime="tensorrt-rtx",
                     output=folder / "a.plan", report=seen)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    while "Optimizing graph" not in process.stdout.readline():
        assert process.poll() is None
    return process


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_ctrl_c_stops_promptly_and_leaves_nothing(slow_build: subprocess.Popen[str], tmp_path: Path) -> None:
    (worker,) = children_of(slow_build.pid)
    begin = time.perf_counter()
    slow_build.send_signal(signal.SIGINT)
    slow_build.communicate(timeout=60)
    assert time.perf_counter() - begin < 15  # seconds on a busy machine; it is less than one on an idle one
    assert slow_build.returncode == -signal.SIGINT
    assert not is_alive(worker)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_killed_parent_takes_its_worker_along(slow_build: subprocess.Popen[str], tmp_path: Path) -> None:
    (worker,) = children_of(slow_build.pid)
    os.kill(slow_build.pid, signal.SIGKILL)
    slow_build.communicate(timeout=60)
    deadline = time.perf_counter() + 5
    while is_alive(worker) and time.perf_counter() < deadline:
        time.sleep(0.05)
    assert not is_alive(worker)
    assert not (tmp_path / "a.plan").exists()
