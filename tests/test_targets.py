"""Which engine an export builds, what it records of it, and that it says why when there is none."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from chronos_export import dense_attention, targets
from chronos_export.artifact import open_artifact
from chronos_export.checkpoint import load_checkpoint
from chronos_export.compiled import PLUGIN_NAME, kernel_library, plugin_folder, plugin_library
from chronos_export.engine import build_engine
from chronos_export.engine_attention import with_dense_body
from chronos_export.engine_info import EngineInfo
from chronos_export.errors import MachineError, UsageError
from chronos_export.exporting import write_graphs
from chronos_export.precision import precision_of
from chronos_export.targets import (
    EngineOptions,
    build_engines,
    choose,
    require,
)
from chronos_export.trt_libraries import device_capability, driver_version, is_installed
from engines import make_graph

HAS_RTX = is_installed("tensorrt-rtx")
needs_rtx = pytest.mark.skipif(not HAS_RTX, reason="builds engines: pip install 'chronos-export[rtx]'")
without_gpu = pytest.mark.skipif(device_capability() is not None, reason="this machine has a GPU")
without_tensorrt = pytest.mark.skipif(is_installed("tensorrt"), reason="TensorRT is installed here")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Choose as on a machine with a GPU of this compute capability and these packages and no plugin."""

    def pretend(capability: str, *installed: str) -> None:
        monkeypatch.setattr(targets, "device_capability", lambda: capability)
        monkeypatch.setattr(targets, "is_installed", lambda target: target in installed)
        monkeypatch.setattr(targets, "plugin_library", lambda: None)

    return pretend


# ---- choosing ----


@without_gpu
def test_auto_without_a_gpu() -> None:
    target, why = choose(EngineOptions())
    assert target is None
    assert "no GPU" in why
    assert "--target tensorrt-rtx" in why


@pytest.mark.parametrize(
    ("capability", "installed", "chosen", "told"),
    [
        ("8.6", (), None, "tensorrt is not installed; tensorrt-rtx is not installed"),
        ("8.6", ("tensorrt-rtx",), "tensorrt-rtx", "compute capability 8.6"),
        ("9.0", ("tensorrt-rtx",), None, "tensorrt-rtx does not build for compute capability 9.0"),
        ("9.0", ("tensorrt",), None, "tensorrt needs the plugin (chronos-export plugin build)"),
        ("8.9", ("tensorrt", "tensorrt-rtx"), "tensorrt-rtx", "compute capability 8.9"),
    ],
)
def test_auto_with_a_gpu(
    gpu: Any, capability: str, installed: tuple[str, ...], chosen: str | None, told: str
) -> None:
    gpu(capability, *installed)
    target, why = choose(EngineOptions())
    assert target == chosen
    assert told in why


def test_auto_prefers_tensorrt_once_its_plugin_is_built(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu("9.0", "tensorrt", "tensorrt-rtx")
    assert choose(EngineOptions(attention="body"))[0] == "tensorrt"
    monkeypatch.setattr(targets, "plugin_library", lambda: Path(PLUGIN_NAME))
    assert choose(EngineOptions())[0] == "tensorrt"


def test_a_folder_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Python imports an empty folder as a package; this repository has one of the name `tensorrt`."""
    if is_installed("tensorrt"):
        pytest.skip("TensorRT is installed here")
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.util.find_spec("tensorrt") is not None
    assert not is_installed("tensorrt")


def test_a_target_that_is_named_is_the_target() -> None:
    assert choose(EngineOptions(target="onnxruntime"))[0] is None
    for name in ("tensorrt", "tensorrt-rtx"):
        assert choose(EngineOptions(target=name))[0] == name
    with pytest.raises(UsageError, match="unknown target 'tensorflow'"):
        choose(EngineOptions(target="tensorflow"))


@needs_rtx
def test_auto_builds_for_this_gpu_alone(gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu("8.9", "tensorrt-rtx")
    make_graph(tmp_path / "model.onnx")
    (info,) = build_engines(tmp_path, [3], EngineOptions(), tf32=False, report=lambda event: None)
    assert info.compute_capabilities == ("8.9",)


@without_gpu
def test_nothing_is_built_without_a_target(tmp_path: Path) -> None:
    assert build_engines(tmp_path, [3], EngineOptions(), tf32=False, report=lambda event: None) == []
    assert list(tmp_path.iterdir()) == []


def test_the_plugin_is_where_it_was_built_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHRONOS_EXPORT_PLUGINS", str(tmp_path))
    assert plugin_folder() == tmp_path
    assert plugin_library() is None
    (tmp_path / PLUGIN_NAME).touch()
    assert plugin_library() == tmp_path / PLUGIN_NAME
    assert kernel_library() is None
    monkeypatch.delenv("CHRONOS_EXPORT_PLUGINS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plugin_folder() == tmp_path / "chronos-export" / "plugins"


# ---- attention ----


def test_an_attention_that_is_none() -> None:
    with pytest.raises(UsageError, match="unknown attention 'flash'") as raised:
        require(EngineOptions(target="tensorrt-rtx", attention="flash"))
    assert raised.value.allowed == "plugin, body, native"


@needs_rtx
def test_tensorrts_own_attention_is_refused() -> None:
    with pytest.raises(MachineError, match="has no kernel for it") as raised:
        require(EngineOptions(target="tensorrt-rtx", attention="native"))
    assert raised.value.allowed == "plugin, body"


PACKED = """
import os, sys
from pathlib import Path
from chronos_export.trt_libraries import import_tensorrt
trt = import_tensorrt("tensorrt-rtx", Path(sys.argv[1]))
builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
network = builder.create_network(0)
query, key, value = (network.add_input(name, trt.float16, (300, 4, 64)) for name in "qkv")
lengths = network.add_input("lengths", trt.int32, (16,))
softmax, no_mask = trt.AttentionNormalizationOp.SOFTMAX, trt.CausalMaskKind.NONE
layer = network.add_attention_v2(query, key, value, softmax, no_mask)
layer.query_form = layer.key_value_form = trt.AttentionIOForm.PACKED_NHD
layer.query_lengths = layer.key_value_lengths = lengths
layer.decomposable = True
network.mark_output(layer.get_output(0))
config = builder.create_builder_config()
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM86, 0)
print("plan" if builder.build_serialized_network(network, config) else "no plan", flush=True)
os._exit(0)
"""


@needs_rtx
def test_tensorrt_rtx_still_has_no_packed_attention(tmp_path: Path) -> None:
    """The reason `--attention native` is refused; when this fails, it can be built."""
    done = subprocess.run(
        [sys.executable, "-c", PACKED, tmp_path], capture_output=True, text=True, check=False
    )
    assert "no plan" in done.stdout, done.stderr
    assert "no fused kernel is available on this target" in done.stdout + done.stderr


def rows_and_groups(random: np.random.Generator) -> dict[str, Any]:
    context = random.normal(size=(7, 40)).astype(np.float32)
    context[2, :30] = np.nan
    return {
        "context": context,
        "group_ids": np.array([4, 4, -1, 4, 9, -1, 4]),
        "future_covariates": np.full((7, 16), np.nan, dtype=np.float32),
    }


@pytest.fixture(scope="module")
def graphs(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    write_graphs(load_checkpoint(str(small)), folder, precision_of("float32"))
    return folder


def test_the_dense_body_forecasts_the_same(graphs: Path, tmp_path: Path) -> None:
    """In float32 both forms are the same sums in another order, so they differ by rounding alone."""
    copy = with_dense_body(graphs / "model.onnx", tmp_path)
    model = onnx.load(copy, load_external_data=False)
    assert not any(a.name.startswith("plugin_") for node in model.graph.node for a in node.attribute)
    assert "NonZero" not in {node.op_type for function in model.functions for node in function.node}
    (tmp_path / "weights.bin").unlink()  # a link, which onnxruntime does not follow
    shutil.copy(graphs / "weights.bin", tmp_path)
    feed = rows_and_groups(np.random.default_rng(0))
    dense, lanes = (
        ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for path in (copy, graphs / "model.onnx")
    )
    spread = np.abs(lanes).max(axis=(1, 2), keepdims=True)
    assert (np.abs(dense - lanes) / spread).max() < 1e-4


def test_a_dense_body_without_its_mask_is_seen(
    graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmasked = dense_attention._BODY.replace(
        "Where (seen, zero_float, lowest)", "Where (seen, zero_float, zero_float)"
    )
    monkeypatch.setattr(dense_attention, "_BODY", unmasked)
    with pytest.raises(AssertionError):
        test_the_dense_body_forecasts_the_same(graphs, tmp_path)


@needs_rtx
@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
def test_the_body_becomes_an_engine_without_plugin_layers(tmp_path: Path, dtype: str) -> None:
    graph = make_graph(tmp_path / "model.onnx", dtype=dtype)
    output = tmp_path / "a.plan"
    info = build_engine(graph, [3, 5], target="tensorrt-rtx", output=output, attention="body")
    assert (info.attention, info.plugin_layers, info.plugin_sha256) == ("body", 0, None)
    assert b"num_heads" not in output.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.plan", "model.onnx"]


# ---- through the command line ----


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chronos_export.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


@needs_rtx
def test_an_engine_is_published_with_all_that_must_agree(tmp_path: Path) -> None:
    done = run(
        "--model", "demo", "--batch", "100,200", "--target", "tensorrt-rtx", "-o", "built", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
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
    info = EngineInfo.from_entry(entry, artifact.path)
    assert info.as_entry(artifact.path) == entry
    if device_capability() is None:
        assert shown["validation"]["engines"] == [
            "tensorrt-rtx.plan was not run: it runs on compute capability 8.0, 8.6, 8.9, 12.0,"
            " and this machine has no GPU"
        ]
        assert shown["validation"]["engines"][0] in done.stderr


@without_tensorrt
def test_a_named_target_that_cannot_be_had(tmp_path: Path) -> None:
    done = run("--model", "demo", "--batch", "100", "--target", "tensorrt", "-o", "built", cwd=tmp_path)
    assert done.returncode == 3
    assert "tensorrt was asked for, but the package tensorrt is not installed" in done.stderr
    assert "fix: pip install 'chronos-export[tensorrt]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@without_gpu
@pytest.mark.slow
def test_auto_says_why_there_is_no_engine(toy: Path, tmp_path: Path) -> None:
    done = run("--model", toy, "--batch", "100", "-o", "built", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "no engine" in line]
    assert said == ["no engine: this machine has no GPU (--target tensorrt-rtx builds ahead of time)"]
    assert open_artifact(tmp_path / "built").manifest.engines == []


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
