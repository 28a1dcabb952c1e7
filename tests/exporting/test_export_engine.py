"""Exports with an engine, through the command line: what is recorded of it, and why there is none."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.reading import open_artifact
from chronos_export.machine.gpu import device_capability, driver_version
from tests.helpers.engines import needs_rtx, without_tensorrt


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chronos_export", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def card(folder: Path) -> str:
    return (folder / "README.md").read_text()


@needs_rtx
def test_an_engine_is_published_with_all_that_must_agree(tmp_path: Path) -> None:
    command = ["--model", "demo", "--batch", "100,200", "--runtime", "tensorrt-rtx", "-o", "built"]
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    inspected = run("inspect", "built", "--json", cwd=tmp_path)
    shown = json.loads(inspected.stdout.splitlines()[-1])
    entry, univariate = shown["engines"]
    blocks, context = shown["config"]["num_layers"], shown["config"]["chronos_config"]["context_length"]
    assert [(profile["rows"], profile["context"]) for profile in entry["profiles"]] == [
        (100, context),
        (200, context),
    ]
    assert (univariate["graph"], univariate["attention"], univariate["plugin_layers"]) == (
        "univariate.onnx",
        "none",
        0,
    )
    assert entry["plugin_layers"] == blocks > 1
    assert entry["attention"] == "plugin"
    assert entry["tensorrt_version"] == importlib.metadata.version("tensorrt_rtx")
    assert entry["compute_capabilities"] == ["8.0", "8.6", "8.9", "12.0"]
    assert entry["driver"] == driver_version()
    assert entry["path"] == "engines/tensorrt-rtx.plan"
    artifact = open_artifact(tmp_path / "built")
    assert artifact.file(entry["path"]).stat().st_size == entry["bytes"]
    size, memory = entry["bytes"] / 1e6, entry["peak_rss_bytes"] / 1e6
    assert f"{entry['path']}: {size:.1f} MB, built in {entry['build_seconds']:.1f} s" in done.stderr
    scratch = entry["profiles"][1]["scratch_bytes"] / 1e9
    assert f" with {memory:.0f} MB of memory at most; up to 100 rows x " in done.stderr
    assert f"; up to 200 rows x {context} steps, {scratch:.2f} GB of scratch\n" in done.stderr
    assert f"up to 200 rows x {context} steps, {scratch:.2f} GB" in (artifact.path / "README.md").read_text()
    info = EngineInfo.from_entry(entry, artifact.path)
    assert info.as_entry(artifact.path) == entry
    if device_capability() is None:
        *_, general, univariate = shown["validation"]["runtimes"]
        for engine, name in ((general, "tensorrt-rtx.plan"), (univariate, "tensorrt-rtx-univariate.plan")):
            why = "it runs on compute capability 8.0, 8.6, 8.9, 12.0, and this machine has no GPU"
            detail = f"{name} was not run: {why}"
            assert engine == {"runtime": name, "status": "built, not run", "detail": detail}
            assert detail in done.stderr
            for said in (done.stdout, run("inspect", "built", cwd=tmp_path).stdout, card(artifact.path)):
                assert f"{name} built, not run" in said
            assert f"| {name} | built, not run | {detail} |" in card(artifact.path)


@without_tensorrt
def test_a_named_target_that_cannot_be_had(tmp_path: Path) -> None:
    done = run("--model", "demo", "--batch", "100", "--runtime", "tensorrt", "-o", "built", cwd=tmp_path)
    assert done.returncode == 3
    assert "the runtime tensorrt needs tensorrt-cu13, which is not installed" in done.stderr
    assert "fix: pip install 'tensorrt-cu13>=10.13'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@needs_rtx
@pytest.mark.slow
def test_two_builds_of_one_artifact_at_once(tmp_path: Path) -> None:
    """One is published, the other is told so; neither leaves anything else behind."""
    command = ["--model", "demo", "--batch", "3", "--runtime", "tensorrt-rtx", "--compute-capability", "8.6"]
    command += ["--context", "64", "--horizon", "16", "-o", "built"]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: run(*command, cwd=tmp_path), range(2))
    assert sorted([first.returncode, second.returncode]) in ([0, 2], [0, 3]), first.stderr + second.stderr
    entry, _ = open_artifact(tmp_path / "built").manifest.engines
    assert [profile["rows"] for profile in entry["profiles"]] == [3]
    assert not [path for path in tmp_path.rglob("*") if "tmp" in path.name or path.suffix == ".failed"]
