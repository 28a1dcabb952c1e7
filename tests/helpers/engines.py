"""A small ONNX graph under the graph contract, for tests of engines, and what a machine has for them."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from chronos_export.graph.group_attention import function_body
from chronos_export.machine.gpu import device_capability
from chronos_export.machine.packages import is_installed

LIMITS = {"context_length": 512, "max_output_patches": 4, "output_patch_size": 16}

needs_rtx = pytest.mark.skipif(
    not is_installed("tensorrt-rtx"), reason="builds engines: pip install tensorrt-rtx"
)
without_gpu = pytest.mark.skipif(device_capability() is not None, reason="this machine has a GPU")
without_tensorrt = pytest.mark.skipif(is_installed("tensorrt"), reason="TensorRT is installed here")


def make_graph(
    path: Path,
    *,
    blocks: int = 2,
    heads: int = 4,
    head_dim: int = 16,
    dtype: str = "float",
    attributes: str = ', plugin_namespace = "chronos", plugin_version = "1"',
    identity_body: bool = False,
    product: bool = False,
    context: str = "context",
    limits: dict[str, int] | None = LIMITS,
    univariate: bool = False,
) -> Path:
    """Save a graph whose tokens are the time steps and whose segments are single rows; returns its path.

    Args:
        blocks: GroupAttention nodes, one after the other.
        dtype: Type of the attention, as ONNX's text format names it.
        attributes: Of each node, after num_heads.
        identity_body: Give the node a body that any TensorRT can parse instead of its true one.
        product: Multiply what each node gives by a matrix.
        context: Name of the first input.
        limits: The model's own limits, in the metadata; None states none.
        univariate: Whether it has no group ids, and then no blocks.
    """
    kinds = {"float": 1, "float16": 10, "bfloat16": 16}
    operator = f"chronos.GroupAttention <num_heads = {heads}{attributes}>"
    layers = "\n".join(
        f"a{i} = {operator} (x{i}, x{i}, x{i}, begin, end, mask)\n"
        f"x{i + 1} = {'MatMul' if product else 'Add'} (a{i}, matrix)"
        for i in range(blocks)
    )
    segments = """
            begin = Cast <to = 6> (group_ids)
            next = Add (group_ids, one)
            end = Cast <to = 6> (next)
    """
    segments = "" if univariate else segments
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20, "chronos" : 1]>
        tiny (float[rows, context_length] {context}, {"" if univariate else "int64[rows] group_ids,"}
              float[rows, horizon] future_covariates)
            => (float[rows, horizon] quantile_preds)
        {{
            missing = IsNaN ({context})
            mask = Not (missing)
            last = Constant <value_ints = [2]> ()
            one = Constant <value_int = 1> ()
            steps = Unsqueeze ({context}, last)
            width = Constant <value_ints = [1, 1, {heads * head_dim}]> ()
            spread = Expand (steps, width)
            x0 = Cast <to = {kinds[dtype]}> (spread)
            size = Constant <value_ints = [{heads * head_dim if product else 1}, {heads * head_dim}]> ()
            zeros = ConstantOfShape (size)
            matrix = Cast <to = {kinds[dtype]}> (zeros)
            {segments}
            {layers}
            attended = Cast <to = 1> (x{blocks})
            axes = Constant <value_ints = [1, 2]> ()
            sum = ReduceSum <keepdims = 0> (attended, axes)
            column_axis = Constant <value_ints = [1]> ()
            column = Unsqueeze (sum, column_axis)
            quantile_preds = Add (future_covariates, column)
        }}
    """)
    model.functions.append(_identity() if identity_body else function_body(heads))
    if limits is not None:
        model.metadata_props.add(key="config", value=json.dumps({"chronos_config": limits}))
    onnx.save(model, path)
    return path


def _identity() -> onnx.FunctionProto:
    return onnx.parser.parse_function("""
        <domain: "chronos", opset_import: ["" : 20]>
        GroupAttention <num_heads, plugin_namespace, plugin_version>
        (query, key, value, segment_begin, segment_end, key_mask) => (output)
        { output = Identity (value) }
    """)
