"""How group attention gets into an engine: what is refused, and each form in the place of the node."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.engine import building as engine
from chronos_export.engine import packed_attention
from chronos_export.engine.attention import check_attention, graph_with
from chronos_export.engine.building import build_engine
from chronos_export.engine.choice import EngineOptions, require
from chronos_export.errors import BuildError, MachineError, UsageError
from chronos_export.exporting.export import write_graphs
from chronos_export.graph import dense_attention
from chronos_export.graph.precision import precision_of
from tests.helpers.engines import make_graph, needs_rtx
from tests.helpers.upstream import assert_graph_as_upstream

FLOAT32 = precision_of("float32")


def test_an_attention_that_is_none() -> None:
    with pytest.raises(UsageError, match="unknown attention 'flash'") as raised:
        require(EngineOptions(target="tensorrt-rtx", attention="flash"), FLOAT32)
    assert raised.value.allowed == "plugin, body, native"


@needs_rtx
def test_tensorrt_rtx_is_refused_tensorrts_own_attention() -> None:
    with pytest.raises(MachineError, match="has no kernel for it") as raised:
        require(EngineOptions(target="tensorrt-rtx", attention="native"), FLOAT32)
    assert raised.value.allowed == "plugin, body"


@pytest.mark.parametrize("version", ["10.16.1.11", "11.0.0.114"])
def test_a_tensorrt_before_packed_attention(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(version, monkeypatch)
    with pytest.raises(MachineError, match=f"needs TensorRT 11.1; installed is {version}") as raised:
        require(EngineOptions(target="tensorrt", attention="native"), FLOAT32)
    assert raised.value.allowed == "plugin, body"


@pytest.mark.parametrize("version", ["11.1.0.106", "11.10.0.1", "12.0.0.1"])
def test_a_tensorrt_with_packed_attention(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(version, monkeypatch)
    check_attention("native", "tensorrt")


def install(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `tensorrt` that has nothing but its version."""
    module = ModuleType("tensorrt")
    vars(module).update(__version__=version, __spec__=ModuleSpec("tensorrt", None, origin="here"))
    monkeypatch.setitem(sys.modules, "tensorrt", module)


@needs_rtx
@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
@pytest.mark.parametrize("capability", ["8.6", "12.0"])
def test_tensorrt_rtx_has_no_kernel_for_packed_attention(
    tmp_path: Path, native_on_rtx: None, dtype: str, capability: str
) -> None:
    """The reason it is refused, after every block was found; when this fails, it can be built."""
    graph = make_graph(tmp_path / "model.onnx", head_dim=64, dtype=dtype)
    with pytest.raises(BuildError, match=r"packed \(NHD\) inputs described by cu_seqlens, .*no fused kernel"):
        build(graph, tmp_path, attention="native", compute_capabilities=[capability])


@needs_rtx
def test_all_but_packed_attention_becomes_an_engine(
    tmp_path: Path, native_on_rtx: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo model's network and its shapes are sound; a sum takes the place of what has no kernel."""
    write_graphs(load_checkpoint("demo"), tmp_path, FLOAT32)
    call = packed_attention._BODY[slice(*map(packed_attention._BODY.index, ("mixed = ", "shape = ")))]
    monkeypatch.setattr(
        packed_attention,
        "_BODY",
        packed_attention._BODY.replace(
            call,
            """
        both = Add (query_lengths, key_lengths)
        sum = ReduceSum (both)
        like = CastLike (sum, query)
        queries_keys = Add (query_heads, key_heads)
        all_heads = Add (queries_keys, value_heads)
        mixed = Add (all_heads, like)
    """,
        ),
    )
    with pytest.raises(BuildError, match="and TensorRT made 0 native layers, not 3"):
        build(tmp_path / "model.onnx", tmp_path, attention="native")
    without_check = (
        "from chronos_export.engine import worker as engine_worker;"
        " engine_worker._LAYERS = {'plugin': 'PLUGIN_V3'};"
    )
    monkeypatch.setattr(engine, "WORKER", [sys.executable, "-c", f"{without_check} engine_worker.main()"])
    info = build(tmp_path / "model.onnx", tmp_path, attention="native")
    assert (info.attention, info.plugin_layers, info.profiles) == ("native", 0, (100, 200))


@needs_rtx
@pytest.mark.parametrize(("asked", "given"), [("native", "body"), ("plugin", "native"), ("body", "native")])
def test_another_attention_than_the_one_asked_for(
    tmp_path: Path, native_on_rtx: None, monkeypatch: pytest.MonkeyPatch, asked: str, given: str
) -> None:
    """The bug planted: a graph rewritten wrongly."""
    graph = make_graph(tmp_path / "model.onnx")
    monkeypatch.setattr(engine, "graph_with", lambda _, path, folder, tf32: graph_with(given, path, folder))
    with pytest.raises(BuildError, match=r"TensorRT made \d \w+ layers, not \d") as raised:
        build(graph, tmp_path, attention=asked)
    assert f"for --attention {asked}" in raised.value.allowed
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.fixture
def native_on_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a build go on that is refused."""
    monkeypatch.setattr(engine, "check_attention", lambda attention, target: None)


def build(graph: Path, folder: Path, **options: Any) -> EngineInfo:
    return build_engine(graph, [100, 200], target="tensorrt-rtx", output=folder / "a.plan", **options)


def test_the_dense_body_forecasts_as_upstream(small: Path, small_graphs: Path, tmp_path: Path) -> None:
    copy = graph_with("body", small_graphs / "model.onnx", tmp_path)
    model = onnx.load(copy, load_external_data=False)
    assert not any(a.name.startswith("plugin_") for node in model.graph.node for a in node.attribute)
    assert "NonZero" not in {node.op_type for function in model.functions for node in function.node}
    assert_graph_as_upstream(copy, small)


def test_a_dense_body_without_its_mask_is_seen(
    small: Path, small_graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked = "Where (seen, zero_float, lowest)"
    unmasked = dense_attention._BODY.replace(masked, masked.replace("lowest", "zero_float"))
    monkeypatch.setattr(dense_attention, "_BODY", unmasked)
    copy = graph_with("body", small_graphs / "model.onnx", tmp_path)
    with pytest.raises(AssertionError, match="times what is allowed"):
        assert_graph_as_upstream(copy, small)


@needs_rtx
@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
def test_the_body_becomes_an_engine_without_plugin_layers(tmp_path: Path, dtype: str) -> None:
    graph = make_graph(tmp_path / "model.onnx", dtype=dtype)
    output = tmp_path / "a.plan"
    info = build_engine(graph, [3, 5], target="tensorrt-rtx", output=output, attention="body")
    assert (info.attention, info.plugin_layers, info.plugin_sha256) == ("body", 0, None)
    assert b"num_heads" not in output.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.plan", "model.onnx"]
