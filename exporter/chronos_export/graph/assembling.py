"""Recorded nodes as an ONNX model, with its inputs, outputs and operator sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from chronos_export.graph import group_attention as body
from chronos_export.graph.builder import GraphBuilder

OPSET = 20  # the newest that ONNX Runtime's CPU kernels and TensorRT 10.13 both run whole
IR_VERSION = 10
TAKES = {  # type and shape of each input
    "context": (TensorProto.FLOAT, ["rows", "context_length"]),
    "group_ids": (TensorProto.INT64, ["rows"]),
    "future_covariates": (TensorProto.FLOAT, ["rows", "horizon"]),
}


def as_model(
    g: GraphBuilder, num_heads: int, inputs: Sequence[str], outputs: Mapping[str, Sequence[str | int]]
) -> onnx.ModelProto:
    """Return a graph that was written.

    Args:
        g: Its nodes and weights.
        num_heads: Of group attention, which is in every graph that takes group ids.
        inputs: Their names.
        outputs: Names to shapes, float32.
    """
    opsets = [helper.make_opsetid("", OPSET)]
    functions = []
    if "group_ids" in inputs:
        opsets.append(helper.make_opsetid(body.DOMAIN, body.VERSION))
        functions.append(body.function_body(num_heads))
    taken = [helper.make_tensor_value_info(name, *TAKES[name]) for name in inputs]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    graph = helper.make_graph(g.nodes, "chronos2", taken, given, list(g.initializers.values()))
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=IR_VERSION)
