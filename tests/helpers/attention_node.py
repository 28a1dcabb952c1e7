"""`chronos::GroupAttention` alone in an ONNX graph, without a body, and its inputs."""

from __future__ import annotations

from typing import Any

import onnx
import torch

from tests.helpers.attention import Problem

INPUTS = ("query", "key", "value", "segment_begin", "segment_end", "key_mask")
TYPES = {torch.float32: "float", torch.float16: "float16"}


def one_node(heads: int, dtype: torch.dtype) -> onnx.ModelProto:
    tensor = f"{TYPES[dtype]}[rows, tokens, width]"
    return onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 20, "chronos" : 1]>
        one ({tensor} query, {tensor} key, {tensor} value,
             int32[rows] segment_begin, int32[rows] segment_end, bool[rows, tokens] key_mask)
            => ({tensor} out)
        {{
            out = chronos.GroupAttention
                <num_heads = {heads}, plugin_namespace = "chronos", plugin_version = "1">
                ({", ".join(INPUTS)})
        }}
    """)


def feed_of(problem: Problem) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in zip(INPUTS, problem.args[:6], strict=True)}
