"""The rewritten model as ONNX: `model.onnx`, `univariate.onnx` and the weights they share.

    rewritten torch model -> torch.onnx -> cleaned graph + GroupAttention body + metadata -> files

The same checkpoint gives the same bytes in every process: names come from the trace alone, everything that
describes the tracing machine is stripped, and weights are stored once, in the order they are first used.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import onnx
import onnxscript
import torch
from onnx import helper
from onnxscript import opset20 as op
from torch.export import Dim

from chronos_export import group_attention_onnx as body
from chronos_export.errors import BuildError
from chronos_export.model import SegmentedChronos2, UnivariateChronos2

OPSET = 20  # the newest that ONNX Runtime's CPU kernels and TensorRT 10.13 both run whole
IR_VERSION = 10
GENERAL, UNIVARIATE, WEIGHTS = "model.onnx", "univariate.onnx", "weights.bin"
ALIGNMENT = 4096  # lets a runtime map the file instead of reading it
INLINE_BYTES = 1024  # smaller tensors stay in the graph

# Every operator the graphs may hold. None lacks a kernel on ONNX Runtime's CPU or CUDA provider, nor a
# TensorRT layer; Asinh, Sinh, Unique, TopK and Compress are the ones to keep out.
ALLOWED_OPERATORS = frozenset(
    "Abs Add And Cast CastLike Clip Concat Constant Cos CumSum Div Equal Erf Exp Expand Gather GatherND Greater "
    "GroupAttention Identity IsNaN Less Log MatMul Max Min Mod Mul Neg NonZero Not Pow Range ReduceMax ReduceMean "
    "ReduceMin ReduceSum Relu Reshape Round ScatterElements Shape Sigmoid Sign Sin Slice Softmax Sqrt Squeeze Sub "
    "Tanh Transpose Unsqueeze Where".split()
)


def export_onnx(segmented: SegmentedChronos2, lone: UnivariateChronos2, folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write both graphs and their weights.

    Args:
        segmented: The rewritten model, in eval mode.
        lone: The same model for rows that are groups of their own.
        folder: An existing, empty folder.
        metadata: What the graphs shall say about their origin; values are stored as JSON.

    Raises:
        BuildError: If the traced graph holds an operator that some runtime lacks, or the wrong number of
            GroupAttention nodes.
    """
    body.register_schema()
    graphs = {GENERAL: _trace(segmented), UNIVARIATE: _trace(lone)}
    expected = {GENERAL: len(segmented.encoder.blocks), UNIVARIATE: 0}
    with (folder / WEIGHTS).open("wb") as file:
        store = _WeightStore(file)
        for name, model in graphs.items():
            _clean(model, metadata)
            if expected[name]:
                model.functions.append(body.function_body(segmented.sizes.num_heads))
                model.opset_import.append(helper.make_opsetid(body.DOMAIN, body.VERSION))
            _check(model, name, expected[name])
            for tensor in model.graph.initializer:
                store.move_out(tensor)
            (folder / name).write_bytes(model.SerializeToString(deterministic=True))
    for name in graphs:
        onnx.checker.check_model(folder / name, full_check=True)


def _trace(model: SegmentedChronos2) -> onnx.ModelProto:
    rows, length, horizon = Dim("rows"), Dim("context_length"), Dim("horizon")
    patch = model.sizes.patch
    # Lengths that are no whole patches, or tracing would fix the padding at zero.
    context, future = torch.randn(5, 4 * patch + 5), torch.randn(5, 2 * patch + 3)
    inputs = {"context": context, "group_ids": torch.tensor([1, 0, 1, 2, 2]), "future_covariates": future}
    shapes = {"context": {0: rows, 1: length}, "group_ids": {0: rows}, "future_covariates": {0: rows, 1: horizon}}
    if isinstance(model, UnivariateChronos2):
        del inputs["group_ids"], shapes["group_ids"]
    with _quiet():
        program = torch.onnx.export(
            model,
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["quantile_preds"],
            dynamic_shapes=shapes,
            custom_translation_table={
                torch.ops.chronos.group_attention.default: _group_attention_node,
                torch.ops.aten.scaled_dot_product_attention.default: _attention_nodes,
            },
        )
    assert program is not None
    return program.model_proto


def _group_attention_node(query, key, value, segment_begin, segment_end, key_mask, num_heads):  # type: ignore
    opset = onnxscript.values.Opset(body.DOMAIN, body.VERSION)
    return opset.GroupAttention(
        query,
        key,
        value,
        segment_begin,
        segment_end,
        key_mask,
        num_heads=num_heads,
        plugin_namespace=body.DOMAIN,
        plugin_version=str(body.VERSION),
    )


def _attention_nodes(  # type: ignore
    query, key, value, attn_mask, dropout_p=0.0, is_causal=False, scale=1.0, enable_gqa=False
):
    """Time attention; torch's own lowering reshapes the keys once more."""
    scores = op.Add(op.MatMul(query, op.Transpose(key, perm=[0, 1, 3, 2])), attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress lines and its notes about optional packages to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _clean(model: onnx.ModelProto, metadata: Mapping[str, Any]) -> None:
    """Drop what describes the tracing process, name the dimensions, state the origin."""
    graph = model.graph
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "chronos-export", str(metadata.get("chronos-export", ""))
    model.doc_string = graph.doc_string = ""
    graph.name = "chronos2"
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{index}"
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*graph.input, *graph.output]:
        value.doc_string = ""
        del value.metadata_props[:]
    graph.output[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    graph.output[0].type.tensor_type.shape.dim[2].dim_param = "forecast_length"
    for key in sorted(metadata):
        model.metadata_props.add(key=key, value=json.dumps(metadata[key], sort_keys=True))


def _check(model: onnx.ModelProto, name: str, attention_nodes: int) -> None:
    nodes = [node.op_type for node in model.graph.node]
    nodes_of_functions = [node.op_type for function in model.functions for node in function.node]
    unknown = sorted({*nodes, *nodes_of_functions} - ALLOWED_OPERATORS)
    if unknown:
        raise BuildError(
            f"{name} holds operators that not every runtime has: {', '.join(unknown)}",
            allowed=", ".join(sorted(ALLOWED_OPERATORS)),
        )
    if nodes.count(body.NAME) != attention_nodes:
        raise BuildError(
            f"{name} holds {nodes.count(body.NAME)} GroupAttention nodes", allowed=f"{attention_nodes}"
        )


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
