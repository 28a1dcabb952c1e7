"""The rewritten model as ONNX: `model.onnx`, `univariate.onnx`, `inlined.onnx` and the weights they share.

    rewritten torch model -> onnx_graph -> checked graphs + metadata -> files

The same checkpoint gives the same bytes in every process. Weights are stored once, in the order they are
first used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import onnx.inliner

from chronos_export.errors import BuildError
from chronos_export.graph import group_attention as body
from chronos_export.graph.chronos2 import write_graph
from chronos_export.graph.embeddings import write_embedding_graph
from chronos_export.graph.precision import Precision
from chronos_export.graph_contract import EMBEDDINGS, GENERAL, INLINED, UNIVARIATE, WEIGHTS
from chronos_export.model.segmented import SegmentedChronos2, UnivariateChronos2

ALIGNMENT = 4096  # lets a runtime map the file instead of reading it
INLINE_BYTES = 1024  # smaller tensors stay in the graph

# Every operator the graphs may hold. None lacks a kernel on ONNX Runtime's CPU or CUDA provider, nor a
# TensorRT layer; Asinh, Sinh, Unique, TopK and Compress are the ones to keep out.
# fmt: off
ALLOWED_OPERATORS = frozenset((
    "Abs", "Add", "And", "Cast", "CastLike", "Concat", "Constant", "Cos", "CumSum", "Div", "Equal", "Exp",
    "Expand", "Gather", "Gelu", "Greater", "GroupAttention", "Identity", "If", "IsNaN", "Less", "Log",
    "MatMul", "Max", "Min", "Mul", "Neg", "NonZero", "Not", "Pad", "Pow", "Range", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceSum", "Relu", "Reshape", "Round", "Scan", "ScatterElements", "Shape", "Sigmoid",
    "Sign", "Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
))
# fmt: on
QUANTIZED_OPERATORS = frozenset(("MatMulInteger", "QuantizeLinear"))  # no GPU computes these


def export_onnx(
    segmented: SegmentedChronos2,
    univariate: UnivariateChronos2,
    folder: Path,
    metadata: Mapping[str, Any],
    precision: Precision,
    embeddings: bool = False,
) -> None:
    """Write the graphs and their weights.

    Args:
        segmented: The rewritten model, in eval mode.
        univariate: The same model for rows that are groups of their own.
        folder: An existing, empty folder.
        metadata: What the graphs shall say about their origin; values are stored as JSON.
        precision: What the products are computed in.
        embeddings: Whether the graph that embeds is written too, of the same weights.

    Raises:
        BuildError: If a graph holds an operator that some runtime lacks, or the wrong number of
            GroupAttention nodes.
    """
    graphs = {GENERAL: write_graph(segmented, precision), UNIVARIATE: write_graph(univariate, precision)}
    expected = {
        GENERAL: len(segmented.encoder.blocks),
        UNIVARIATE: 0,
        EMBEDDINGS: len(segmented.encoder.blocks),
    }
    if embeddings:
        graphs[EMBEDDINGS] = write_embedding_graph(segmented, precision)
    with (folder / WEIGHTS).open("wb") as file:
        store = _WeightStore(file)
        for name, model in graphs.items():
            _state_origin(model, metadata)
            _check(model, name, expected[name], precision)
            for tensor in model.graph.initializer:
                store.move_out(tensor)
            (folder / name).write_bytes(model.SerializeToString(deterministic=True))
    (folder / INLINED).write_bytes(_inlined(graphs[GENERAL]).SerializeToString(deterministic=True))
    for name in (*graphs, INLINED):
        onnx.checker.check_model(folder / name, full_check=True)


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The general graph with group attention's body in its place, without branches.

    OpenVINO knows no local functions, and its 2026.4 gets the first call of a branch wrong.
    """
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    for function in flat.functions:
        function.CopyFrom(body.function_body(body.num_heads_of(flat), branches=False))
    return onnx.inliner.inline_local_functions(flat)


def _state_origin(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> None:
    model.producer_name, model.producer_version = "chronos-export", str(metadata.get("chronos-export", ""))
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=json.dumps(metadata[key], sort_keys=True))


def _check(model: onnx.ModelProto, name: str, attention_nodes: int, precision: Precision) -> None:
    allowed = ALLOWED_OPERATORS | QUANTIZED_OPERATORS if precision.is_quantized else ALLOWED_OPERATORS
    in_functions = (operators_in(function.node) for function in model.functions)
    unknown = sorted(operators_in(model.graph.node).union(*in_functions) - allowed)
    if unknown:
        raise BuildError(
            f"{name} holds operators that not every runtime has: {', '.join(unknown)}",
            allowed=", ".join(sorted(allowed)),
        )
    found = len(body.nodes_of(model))
    if found != attention_nodes:
        raise BuildError(f"{name} holds {found} GroupAttention nodes", allowed=f"{attention_nodes}")


def operators_in(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """The operators of some nodes and of the branches inside them."""
    found = set()
    for node in nodes:
        branches = (operators_in(a.g.node) for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
        found |= {node.op_type}.union(*branches)
    return found


class _WeightStore:
    """One file of weights in which equal bytes are stored once."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.offsets: dict[str, int] = {}

    def move_out(self, tensor: onnx.TensorProto) -> None:
        data = onnx.numpy_helper.to_array(tensor).tobytes()
        if len(data) < INLINE_BYTES:
            return
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self.offsets:
            self.file.write(bytes(-self.file.tell() % ALIGNMENT))
            self.offsets[digest] = self.file.tell()
            self.file.write(data)
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": WEIGHTS, "offset": self.offsets[digest], "length": len(data)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
