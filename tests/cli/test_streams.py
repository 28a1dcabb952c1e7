"""Readers that are slow, stalled or gone, streams that are closed or full: a code and never a hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.published import make

CLI = [sys.executable, "-m", "chronos_export"]
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full here")


def shell(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which "$@" is the command line of chronos-export."""
    return subprocess.run(
        ["sh", "-c", command, "sh", *CLI, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("published") / "artifact")


@needs_full
@pytest.mark.parametrize(
    "arguments", [["inspect"], ["inspect", "--json"], ["--help"], ["completion", "bash"]]
)
def test_a_full_stdout(artifact: Path, arguments: list[str]) -> None:
    """The result did not arrive, so the command is not done."""
    done = shell('"$@" > /dev/full', *arguments, *([artifact] if "inspect" in arguments else []))
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("error: the result cannot be written to stdout: No space left on device")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@needs_full
def test_a_full_stderr(artifact: Path) -> None:
    """There is nobody to tell; the code says it."""
    assert shell('"$@" 2> /dev/full', "inspect", artifact).returncode == 0
    assert shell('"$@" 2> /dev/full', "inspect", "nowhere").returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(artifact: Path, closed: str) -> None:
    """Nor is a file that is opened later taken for one of them."""
    before = {file: file.read_bytes() for file in artifact.rglob("*") if file.is_file()}
    for code, *arguments in (
        (0, "inspect", artifact),
        (2, "inspect", "nowhere"),
        (0, "--help"),
        (0, "doctor"),
    ):
        done = shell(f'"$@" {closed}', *arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
    assert {file: file.read_bytes() for file in artifact.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    "arguments", [["inspect"], ["inspect", "--json"], ["--help"], ["completion", "fish"]]
)
def test_a_reader_who_has_left(artifact: Path, arguments: list[str]) -> None:
    """`chronos-export inspect ... | head -0` is no error."""
    reader, writer = os.pipe()
    os.close(reader)
    last = [artifact] if "inspect" in arguments else []
    done = subprocess.run([*CLI, *arguments, *last], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


ENDLESS = """
from chronos_export.cli import main as cli
from chronos_export.progress import stage
import chronos_export.exporting.request as request

def prepare(asked, report):
    with stage("load", report) as running:
        while True:
            running.step(0.5, "x" * 2000)

request.prepare = prepare
cli.main(["--json", "--model", "demo"])
"""


@contextmanager
def endless(**streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command that reports without end, killed at the latest when the block ends."""
    with subprocess.Popen([sys.executable, "-c", ENDLESS], **streams) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stalled_reader_cannot_keep_the_process(how: signal.Signals) -> None:
    with endless(stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read(1) == b"{"
        time.sleep(1)  # the pipe is full by then
        process.send_signal(how)
        assert process.wait(timeout=60) == 128 + how
        assert process.stderr
        assert b"Traceback" not in process.stderr.read()


def test_a_slow_reader_gets_it_all() -> None:
    with endless(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(500) if time.sleep(0.001) is None]
        process.send_signal(signal.SIGINT)
        lines += process.stdout.readlines()
        events = [json.loads(line) for line in lines]
        assert {event["event"] for event in events[:-1]} == {"stage"}
        assert events[-1]["event"] == "error"
        assert (events[-1]["exit_code"], process.wait(timeout=60)) == (130, 130)
    process.stdout.close()
    assert events[-1]["summary"].startswith("interrupted")
