"""Group attention as TensorRT's own packed attention: `IAttention` over sequences that lie end to end.

A sequence is one token of one segment. Queries lie as [tokens, rows], so a segment's rows are neighbours.
Keys and values lie in the same order, the dead ones moved behind all sequences: packed attention takes no
mask. Where everything lies depends on no block, so `PackedSequences` computes it once.

The node is ONNX-TensorRT's `TRT_Attention`, known by its name in any domain. It scales nothing, does not say
what a query without keys gets, and its two lengths must be two tensors.
Source: https://github.com/onnx/onnx-tensorrt, docs/TRT_custom_ops.md and onnxOpImporters.cpp.
"""

from __future__ import annotations

import onnx

from chronos_export.graph.group_attention import DOMAIN, NAME, num_heads_of

_OUTPUTS = ("query_lengths", "key_lengths", "alive_first")

# Every position has a sequence, so that their number is static: a segment's last position has the segment's,
# the others have empty ones where that begins.
_SEQUENCES = """
<domain: "chronos", opset_import: ["" : 20]>
PackedSequences (segment_begin, key_mask) => (query_lengths, key_lengths, alive_first)
{
    zero = Constant <value_ints: ints = [0]> ()
    one = Constant <value_ints: ints = [1]> ()
    minus_one = Constant <value_ints: ints = [-1]> ()
    scalar_zero = Constant <value_int: int = 0> ()
    scalar_one = Constant <value_int: int = 1> ()
    rows = Shape <start: int = 0, end: int = 1> (key_mask)
    tokens = Shape <start: int = 1, end: int = 2> (key_mask)
    positions = Mul (rows, tokens)
    scalar_rows = Squeeze (rows, zero)
    scalar_tokens = Squeeze (tokens, zero)
    scalar_positions = Squeeze (positions, zero)
    row = Range (scalar_zero, scalar_rows, scalar_one)
    token = Range (scalar_zero, scalar_tokens, scalar_one)
    position = Range (scalar_zero, scalar_positions, scalar_one)
    token_column = Unsqueeze (token, one)

    begin = Cast <to: int = 7> (segment_begin)
    token_begin = Mul (token_column, rows)
    begin_grid = Add (token_begin, begin)
    begins = Reshape (begin_grid, minus_one)
    bounds = Concat <axis: int = 0> (begins, positions)
    query_lengths = Cast <to: int = 6> (bounds)

    alive_grid = Transpose <perm: ints = [1, 0]> (key_mask)
    alive = Reshape (alive_grid, minus_one)
    alive_one = Cast <to: int = 7> (alive)
    alive_up_to = CumSum (alive_one, scalar_zero)
    alive_below = Concat <axis: int = 0> (zero, alive_up_to)
    key_bounds = Gather <axis: int = 0> (alive_below, bounds)
    key_lengths = Cast <to: int = 6> (key_bounds)

    all_alive = Gather <axis: int = 0> (alive_below, positions)
    rank_of_alive = Sub (alive_up_to, alive_one)
    dead_below = Sub (position, rank_of_alive)
    rank_of_dead = Add (all_alive, dead_below)
    rank = Where (alive, rank_of_alive, rank_of_dead)
    row_start = Mul (row, tokens)
    source_grid = Add (token_column, row_start)
    source = Reshape (source_grid, minus_one)
    alive_first = ScatterElements <axis: int = 0> (position, rank, source)
}
"""

# An alive query has at least its own row's key; what a dead one gets is dropped, NaN or not.
_BODY = """
<domain: "chronos", opset_import: ["" : 20, "trt" : 1]>
PackedGroupAttention
(query, key, value, query_lengths, key_lengths, alive_first, key_mask) => (output)
{
    split = Constant <value_ints: ints = [0, @HEADS@, -1]> ()
    minus_one = Constant <value_ints: ints = [-1]> ()
    zero_float = Constant <value_float: float = 0.0> ()
    query_grid = Transpose <perm: ints = [1, 0, 2]> (query)
    query_packed = Flatten <axis: int = 2> (query_grid)
    key_flat = Flatten <axis: int = 2> (key)
    value_flat = Flatten <axis: int = 2> (value)
    key_packed = Gather <axis: int = 0> (key_flat, alive_first)
    value_packed = Gather <axis: int = 0> (value_flat, alive_first)
    query_heads = Reshape (query_packed, split)
    key_heads = Reshape (key_packed, split)
    value_heads = Reshape (value_packed, split)
    mixed = trt.TRT_Attention <query_form: string = "packed_nhd", kv_form: string = "packed_nhd">
        (query_heads, key_heads, value_heads, , query_lengths, key_lengths)
    shape = Shape (query_grid)
    mixed_grid = Reshape (mixed, shape)
    mixed_rows = Transpose <perm: ints = [1, 0, 2]> (mixed_grid)
    alive = Unsqueeze (key_mask, minus_one)
    zero = CastLike (zero_float, query)
    output = Where (alive, mixed_rows, zero)
}
"""


def pack_attention(model: onnx.ModelProto) -> None:
    """Make every GroupAttention of a graph packed, in place.

    A node becomes a `PackedGroupAttention`, around one `TRT_Attention`. `PackedSequences` is called once for
    all nodes with the same rows and tokens; the last block has fewer tokens.
    """
    nodes, heads = list(model.graph.node), num_heads_of(model)
    sequences: dict[tuple[str, ...], list[str]] = {}
    del model.graph.node[:], model.functions[:]
    for node in nodes:
        if (node.domain, node.op_type) == (DOMAIN, NAME):
            query, key, value, begin, _, mask = node.input
            if (begin, mask) not in sequences:
                sequences[begin, mask] = [f"{name}_{len(sequences)}" for name in _OUTPUTS]
                model.graph.node.append(_call("PackedSequences", [begin, mask], sequences[begin, mask]))
            inputs = [query, key, value, *sequences[begin, mask], mask]
            node = _call("PackedGroupAttention", inputs, list(node.output))
        model.graph.node.append(node)
    bodies = (_SEQUENCES, _BODY.replace("@HEADS@", str(heads)))
    model.functions.extend(map(onnx.parser.parse_function, bodies))


def _call(name: str, inputs: list[str], outputs: list[str]) -> onnx.NodeProto:
    return onnx.helper.make_node(name, inputs, outputs, domain=DOMAIN)
