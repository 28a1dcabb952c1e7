"""How group attention gets into an engine: what is refused, and each form in the place of the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.engine import building as engine
from chronos_export.engine.attention import graph_with
from chronos_export.engine.building import build_engine
from chronos_export.engine.choice import EngineOptions, require
from chronos_export.errors import BuildError, UsageError
from chronos_export.graph import dense_attention
from chronos_export.graph.precision import precision_of
from tests.helpers.engines import make_graph, needs_rtx
from tests.helpers.upstream import assert_graph_as_upstream

FLOAT32 = precision_of("float32")


def test_an_attention_that_is_none() -> None:
    with pytest.raises(UsageError, match="unknown attention 'flash'") as raised:
        require(EngineOptions(runtime="tensorrt-rtx", attention="flash"), (100,))
    assert raised.value.allowed == "plugin, body, none"


@needs_rtx
@pytest.mark.parametrize(("asked", "given"), [("plugin", "body")])
def test_another_attention_than_the_one_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, given: str
) -> None:
    """The bug planted: a graph rewritten wrongly."""
    graph = make_graph(tmp_path / "model.onnx")
    monkeypatch.setattr(engine, "graph_with", lambda _, path, folder, tf32: graph_with(given, path, folder))
    with pytest.raises(BuildError, match=r"TensorRT made \d \w+ layers, not \d") as raised:
        build(graph, tmp_path, attention=asked)
    assert f"for --attention {asked}" in raised.value.allowed
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def build(graph: Path, folder: Path, **options: Any) -> EngineInfo:
    return build_engine(graph, [100, 200], runtime="tensorrt-rtx", output=folder / "a.plan", **options)


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
    info = build_engine(graph, [3, 5], runtime="tensorrt-rtx", output=output, attention="body")
    assert (info.attention, info.plugin_layers, info.plugin_sha256) == ("body", 0, None)
    assert b"num_heads" not in output.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.plan", "model.onnx"]
