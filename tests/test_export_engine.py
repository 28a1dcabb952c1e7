"""Exports with an engine, through the command line: what is recorded of it, and why there is none."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chronos_export.artifact import open_artifact
from chronos_export.engine_info import EngineInfo
from chronos_export.trt_libraries import device_capability, driver_version
from engines import needs_rtx, without_tensorrt


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chronos_export.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def card(folder: Path) -> str:
    return (folder / "README.md").read_text()


@needs_rtx
def test_an_engine_is_published_with_all_that_must_agree(tmp_path: Path) -> None:
    command = ["--model", "demo", "--batch", "100,200", "--target", "tensorrt-rtx", "-o", "built"]
    done = run(*command, "--timing-cache", "timings", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning: timing cache not used: tensorrt-rtx measures nothing when it builds" in done.stderr
    inspected = run("inspect", "built", "--json", cwd=tmp_path)
    shown = json.loads(inspected.stdout.splitlines()[-1])
    (entry,) = shown["engines"]
    blocks = shown["config"]["num_layers"]
    assert entry["profiles"] == [100, 200]
    assert entry["plugin_layers"] == blocks > 1
    assert entry["attention"] == "plugin"
    assert entry["tensorrt_version"] == importlib.metadata.version("tensorrt_rtx")
    assert entry["compute_capabilities"] == ["8.0", "8.6", "8.9", "12.0"]
    assert entry["driver"] == driver_version()
    assert entry["context"] == shown["config"]["chronos_config"]["context_length"]
    assert entry["path"] == "engines/tensorrt-rtx.plan"
    artifact = open_artifact(tmp_path / "built")
    assert artifact.file(entry["path"]).stat().st_size == entry["bytes"]
    size, memory = entry["bytes"] / 1e6, entry["peak_rss_bytes"] / 1e6
    assert f"{entry['path']}: {size:.1f} MB, built in {entry['build_seconds']:.1f} s" in done.stderr
    assert f" with {memory:.0f} MB of memory at most\n" in done.stderr
    info = EngineInfo.from_entry(entry, artifact.path)
    assert info.as_entry(artifact.path) == entry
    if device_capability() is None:
        *_, engine = shown["validation"]["runtimes"]
        why = "it runs on compute capability 8.0, 8.6, 8.9, 12.0, and this machine has no GPU"
        assert engine == {
            "runtime": "tensorrt-rtx.plan",
            "status": "built, not run",
            "detail": f"tensorrt-rtx.plan was not run: {why}",
        }
        assert engine["detail"] in done.stderr
        for said in (done.stdout, run("inspect", "built", cwd=tmp_path).stdout, card(artifact.path)):
            assert "tensorrt-rtx.plan built, not run)" in said
        assert f"| tensorrt-rtx.plan | built, not run | {engine['detail']} |" in card(artifact.path)


@without_tensorrt
def test_a_named_target_that_cannot_be_had(tmp_path: Path) -> None:
    done = run("--model", "demo", "--batch", "100", "--target", "tensorrt", "-o", "built", cwd=tmp_path)
    assert done.returncode == 3
    assert "tensorrt was asked for, but the package tensorrt is not installed" in done.stderr
    assert "fix: pip install 'chronos-export[tensorrt]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_rtx
@pytest.mark.slow
def test_two_builds_of_one_artifact_at_once(tmp_path: Path) -> None:
    """One is published, the other is told so; neither leaves anything else behind."""
    command = ["--model", "demo", "--batch", "3", "--target", "tensorrt-rtx", "--compute-capability", "8.6"]
    command += ["--context", "64", "--horizon", "16", "-o", "built"]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: run(*command, cwd=tmp_path), range(2))
    assert sorted([first.returncode, second.returncode]) in ([0, 2], [0, 3]), first.stderr + second.stderr
    (entry,) = open_artifact(tmp_path / "built").manifest.engines
    assert entry["profiles"] == [3]
    assert not [path for path in tmp_path.rglob("*") if "tmp" in path.name or path.suffix == ".failed"]
