"""How group attention gets into an engine: what is refused, and the dense body against the lanes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from chronos_export import dense_attention
from chronos_export.checkpoint import load_checkpoint
from chronos_export.engine import build_engine
from chronos_export.engine_attention import with_dense_body
from chronos_export.errors import MachineError, UsageError
from chronos_export.exporting import write_graphs
from chronos_export.precision import precision_of
from chronos_export.targets import EngineOptions, require
from engines import make_graph, needs_rtx

FLOAT32 = precision_of("float32")


def test_an_attention_that_is_none() -> None:
    with pytest.raises(UsageError, match="unknown attention 'flash'") as raised:
        require(EngineOptions(target="tensorrt-rtx", attention="flash"), FLOAT32)
    assert raised.value.allowed == "plugin, body, native"


@needs_rtx
def test_tensorrts_own_attention_is_refused() -> None:
    with pytest.raises(MachineError, match="has no kernel for it") as raised:
        require(EngineOptions(target="tensorrt-rtx", attention="native"), FLOAT32)
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
    write_graphs(load_checkpoint(str(small)), folder, FLOAT32)
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
