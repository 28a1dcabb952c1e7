"""The written graphs: bytes, operators, weights, shapes, metadata."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file

from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.errors import BuildError, UsageError
from chronos_export.exporting.export import write_graphs
from chronos_export.graph import writing as onnx_export
from chronos_export.graph.assembling import OPSET
from chronos_export.graph.chronos2 import write_graph
from chronos_export.graph.precision import PRECISIONS, precision_of
from chronos_export.graph.writing import (
    ALIGNMENT,
    ALLOWED_OPERATORS,
    GENERAL,
    INLINED,
    UNIVARIATE,
    WEIGHTS,
    operators_in,
)
from chronos_export.model.rewrite import rewrite
from tests.helpers.checkpoints import make_model

FLOAT32 = precision_of("float32")
SIZES = ("toy", "small", "quantiles13")
WRITE = """
import sys
from pathlib import Path
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.exporting.export import write_graphs
from chronos_export.graph.precision import precision_of
write_graphs(load_checkpoint(sys.argv[1]), Path(sys.argv[2]), precision_of("float32"))
"""


@pytest.fixture(scope="module")
def graphs_of(
    checkpoint_of: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A folder of graphs of a size, written once."""
    made: dict[str, Path] = {}

    def write(size: str) -> Path:
        if size not in made:
            made[size] = tmp_path_factory.mktemp(size)
            write_graphs(load_checkpoint(checkpoint_of(size)), made[size], FLOAT32)
        return made[size]

    return write


Graphs = Callable[[str], Path]


def operators(model: onnx.ModelProto) -> set[str]:
    return operators_in(
        [*model.graph.node, *(node for function in model.functions for node in function.node)]
    )


def test_two_fresh_processes_write_the_same_bytes(small: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        subprocess.run([sys.executable, "-c", WRITE, str(small), str(folder)], check=True)
        digests.append({f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()})
    assert set(digests[0]) == {GENERAL, INLINED, UNIVARIATE, WEIGHTS}
    assert digests[0] == digests[1]


@pytest.mark.parametrize("size", SIZES)
def test_the_checker_and_the_allow_list_pass(size: str, graphs_of: Graphs) -> None:
    for name in (GENERAL, UNIVARIATE):
        onnx.checker.check_model(graphs_of(size) / name, full_check=True)
        assert operators(onnx.load(graphs_of(size) / name)) <= ALLOWED_OPERATORS
    # No CUDA kernel in onnxruntime, or a limit of 3840 in TensorRT.
    assert not ALLOWED_OPERATORS & {
        "Asinh",
        "Sinh",
        "TopK",
        "Unique",
        "Compress",
        "NonMaxSuppression",
        "Loop",
    }


@pytest.mark.parametrize("operator", ["Asinh", "TopK"])
def test_an_operator_that_some_runtime_lacks_is_refused(
    operator: str, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(*args: object) -> onnx.ModelProto:
        model = write_graph(*args)
        model.graph.node.append(helper.make_node(operator, ["context"], ["unused"]))
        return model

    monkeypatch.setattr(onnx_export, "write_graph", planted)
    with pytest.raises(
        BuildError, match=f"model.onnx holds operators that not every runtime has: {operator}"
    ):
        write_graphs(load_checkpoint(str(toy)), tmp_path, FLOAT32)


@pytest.mark.parametrize("branch", ["", "then_branch", "else_branch"])
def test_an_operator_inside_the_function_is_refused_too(
    branch: str, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(*args: object) -> onnx.ModelProto:
        model = write_graph(*args)
        for function in model.functions:
            (either,) = (node for node in function.node if node.op_type == "If")
            branches = {a.name: a.g.node for a in either.attribute}
            nodes = branches.get(branch, function.node)
            nodes.append(helper.make_node("Unique", ["query"], ["unused"]))
        return model

    monkeypatch.setattr(onnx_export, "write_graph", planted)
    with pytest.raises(BuildError, match="Unique"):
        write_graphs(load_checkpoint(str(toy)), tmp_path, FLOAT32)


def test_a_block_without_its_attention_is_refused(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(*args: object) -> onnx.ModelProto:
        model = write_graph(*args)
        for node in model.graph.node:
            if node.op_type == "GroupAttention":
                node.op_type, node.domain = "Identity", ""
                break
        return model

    monkeypatch.setattr(onnx_export, "write_graph", planted)
    with pytest.raises(BuildError, match=r"model.onnx holds 1 GroupAttention nodes") as error:
        write_graphs(load_checkpoint(str(toy)), tmp_path, FLOAT32)
    assert error.value.allowed == "2"


@pytest.mark.parametrize("size", SIZES)
def test_one_attention_node_a_block_with_its_attributes(size: str, graphs_of: Graphs) -> None:
    config = make_model(size).config
    model = onnx.load(graphs_of(size) / GENERAL)
    nodes = [node for node in model.graph.node if node.op_type == "GroupAttention"]
    assert len(nodes) == config.num_layers
    for node in nodes:
        assert node.domain == "chronos"
        assert len(node.input) == 6
        found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert found == {
            "num_heads": config.num_heads,
            "plugin_namespace": b"chronos",
            "plugin_version": b"1",
        }
    assert [(f.domain, f.name) for f in model.functions] == [("chronos", "GroupAttention")]
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET), ("chronos", 1)]
    assert [(o.domain, o.version) for o in model.functions[0].opset_import] == [("", OPSET)]


def test_univariate_has_no_attention_across_rows(graphs_of: Graphs) -> None:
    model = onnx.load(graphs_of("small") / UNIVARIATE)
    assert not model.functions
    assert "GroupAttention" not in operators(model)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert [i.name for i in model.graph.input] == ["context", "future_covariates"]


def test_inputs_and_output_are_the_contract(graphs_of: Graphs) -> None:
    def signature(values: object) -> list[tuple[str, int, list[str | int]]]:
        return [
            (
                v.name,
                v.type.tensor_type.elem_type,
                [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim],
            )
            for v in values
        ]

    graph = onnx.load(graphs_of("quantiles13") / GENERAL, load_external_data=False).graph
    assert signature(graph.input) == [
        ("context", TensorProto.FLOAT, ["rows", "context_length"]),
        ("group_ids", TensorProto.INT64, ["rows"]),
        ("future_covariates", TensorProto.FLOAT, ["rows", "horizon"]),
    ]
    assert signature(graph.output) == [("quantile_preds", TensorProto.FLOAT, ["rows", 13, "forecast_length"])]


def test_names_are_unique_and_say_where_they_are(graphs_of: Graphs) -> None:
    model = onnx.load(graphs_of("small") / GENERAL)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    for block in range(3):
        for part in ("time/", "group/", "feed_forward/"):
            assert any(name.startswith(f"blocks.{block}/{part}") for name in names)


def test_every_size_of_call(graphs_of: Graphs) -> None:
    general, lone = (
        ort.InferenceSession(graphs_of("toy") / name, providers=["CPUExecutionProvider"])
        for name in (GENERAL, UNIVARIATE)
    )
    random = np.random.default_rng(0)
    for rows, length, horizon in [
        (1, 1, 1),
        (1, 16, 16),
        (3, 17, 15),
        (40, 100, 33),
        (2, 9000, 1024),
        (5, 31, 0),
    ]:
        feed = {
            "context": random.normal(size=(rows, length)).astype(np.float32),
            "future_covariates": np.full((rows, horizon), np.nan, np.float32),
        }
        (apart,) = lone.run(None, feed)
        (out,) = general.run(None, {**feed, "group_ids": np.arange(rows) // 2})
        assert out.shape == apart.shape == (rows, 21, 16 * -(-horizon // 16))
        assert np.isfinite(out).all()


def test_weights_are_stored_once(small: Path, graphs_of: Graphs) -> None:
    """The parameters, and one product W_o W_v a block, in a file that both graphs point to."""
    tensors = load_file(small / "model.safetensors")
    parameters = sum(t.numel() for t in tensors.values()) * 4
    products = 3 * 64 * 64 * 4
    size = (graphs_of("small") / WEIGHTS).stat().st_size
    stored, places = 0, {}
    for name in (GENERAL, UNIVARIATE):
        for tensor in onnx.load(graphs_of("small") / name, load_external_data=False).graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                place = {entry.key: entry.value for entry in tensor.external_data}
                assert place["location"] == WEIGHTS
                assert int(place["offset"]) % ALIGNMENT == 0
                places.setdefault(place["offset"], int(place["length"]))
    stored = sum(places.values())
    assert stored <= parameters + products
    assert stored >= 0.95 * (parameters + products)  # the rest is small enough to stay in the graphs
    assert size <= stored + len(places) * ALIGNMENT
    assert sum(f.stat().st_size for f in graphs_of("small").glob("*.onnx")) < 400_000


def test_metadata_says_what_was_exported(graphs_of: Graphs, small: Path) -> None:
    checkpoint = load_checkpoint(str(small))
    for name in (GENERAL, UNIVARIATE):
        model = onnx.load(graphs_of("small") / name, load_external_data=False)
        found = {p.key: json.loads(p.value) for p in model.metadata_props}
        assert found["digest"] == checkpoint.digest
        assert found["config"] == checkpoint.config
        assert found["torch"] == torch.__version__
        assert {"chronos-export", "chronos-forecasting", "licence", "source"} <= set(found)
        assert "/" not in found["source"]  # no path of this machine
        assert model.producer_name == "chronos-export"


@pytest.mark.parametrize("name", [p for p in PRECISIONS if PRECISIONS[p].is_narrow])
def test_narrow_weights_take_half_the_room(name: str, small: Path, graphs_of: Graphs, tmp_path: Path) -> None:
    write_graphs(load_checkpoint(str(small)), tmp_path, precision_of(name))
    wide, narrow = ((f / WEIGHTS).stat().st_size for f in (graphs_of("small"), tmp_path))
    assert narrow < 0.65 * wide
    onnx.checker.check_model(tmp_path / GENERAL, full_check=True)
    assert operators(onnx.load(tmp_path / GENERAL)) <= ALLOWED_OPERATORS


def test_an_unknown_activation_is_refused() -> None:
    model = rewrite(make_model("toy"))
    model.sizes = replace(model.sizes, activation="tanh")
    with pytest.raises(UsageError, match="'tanh', which cannot be exported"):
        write_graph(model)
