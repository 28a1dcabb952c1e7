"""Checkpoints from the hub, in fresh processes whose hub is a server of our own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from chronos_export.checkpoint.loading import load_checkpoint
from tests.helpers.checkpoints import make_adapter
from tests.helpers.hub import COMMIT, serve

CALL = """
import sys
from chronos_export.errors import ChronosExportError
from chronos_export.checkpoint.{module} import {function}
try:
    found = {function}(*sys.argv[1:])
    print({shown})
except ChronosExportError as error:
    print(error)
    sys.exit(error.exit_code)
"""
LOAD = CALL.format(
    module="loading", function="load_checkpoint", shown="found.revision, found.digest, found.licence"
)
LOCATE = CALL.format(module="source", function="locate", shown="found.revision")


def run_apart(
    program: str, endpoint: str, cache: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run in a fresh process whose hub is `endpoint` and whose cache is `cache`."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_hub_model(toy: Path, tmp_path: Path) -> None:
    """Pinned by commit, tag or branch; no pickle is fetched; later runs need no hub."""
    model = Path(shutil.copytree(toy, tmp_path / "model"))
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (model / "pytorch_model.bin").write_bytes(b"never fetched")
    cache = tmp_path / "cache"
    with serve({"me/toy": model}) as (endpoint, asked):
        loaded = run_apart(LOAD, endpoint, cache, "me/toy")
        pinned = [run_apart(LOCATE, endpoint, cache, "me/toy", revision) for revision in ("v1", COMMIT)]
        unknown = run_apart(LOCATE, endpoint, cache, "me/other")
        unpinned = run_apart(LOCATE, endpoint, cache, "me/toy", "v2")
    offline = run_apart(LOCATE, endpoint, cache, "me/toy")
    forced = run_apart(LOCATE, "http://hub.invalid", cache, "me/toy", COMMIT, HF_HUB_OFFLINE="1")

    assert (loaded.returncode, loaded.stderr) == (0, "")
    assert loaded.stdout.split() == [COMMIT, load_checkpoint(str(toy)).digest, "apache-2.0"]
    assert not any("pytorch_model" in path for path in asked)
    for done in (*pinned, offline, forced):
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, COMMIT, "")
    for done, said in ((unknown, "me/other"), (unpinned, "no revision v2")):
        assert (done.returncode, done.stderr) == (2, "")
        assert said in done.stdout
    assert "--model demo" in unknown.stdout


def test_adapter_of_a_hub_model(toy: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", toy)
    digest = load_checkpoint(str(adapter)).digest
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text().replace(str(toy), "me/toy"))
    with serve({"me/toy": toy}) as (endpoint, _):
        done = run_apart(LOAD, endpoint, tmp_path / "cache", str(adapter))
    assert (done.returncode, done.stdout.split()[1:2], done.stderr) == (0, [digest], "")


def test_a_download_is_reported(toy: Path, tmp_path: Path) -> None:
    program = """
import sys
from chronos_export.checkpoint.source import locate
locate(*sys.argv[1:], report=lambda event: print(event.stage, event.fraction, event.message))
"""
    with serve({"me/toy": toy}) as (endpoint, _):
        done = run_apart(program, endpoint, tmp_path / "cache", "me/toy")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert (lines[0].split(), lines[-1].split()) == (["fetch", "None"], ["fetch", "1.0"])
    counted = "MB" if Version(version("huggingface-hub")) >= Version("1.3") else "files"
    assert any(f"{counted} from the hub" in line for line in lines)


def test_hub_out_of_reach(tmp_path: Path) -> None:
    """Refused, silent (it takes the connection and never answers) and unheard of: seconds, not minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for endpoint in (
            "http://127.0.0.1:9",
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            "http://hub.invalid",
        ):
            begin = time.monotonic()
            done = run_apart(LOCATE, endpoint, tmp_path, "amazon/chronos-2")
            assert (done.returncode, done.stderr) == (3, ""), endpoint
            assert "--model demo" in done.stdout
            assert time.monotonic() - begin < 20  # 8 s of waiting for the hub, the rest for a busy machine
