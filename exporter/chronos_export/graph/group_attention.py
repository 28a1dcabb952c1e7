"""`chronos::GroupAttention` in ONNX: its name and its body in standard operators.

A runtime that knows the operator (TensorRT with our plugin) takes the node; any other inlines the body, which
has two branches. Where all segments are of one length, as in a call that is one group, they are one batch of
products without a gather or padding. Otherwise segments of similar length share a lane and are padded only to
the longest in it, so time and memory are linear in the number of segments. Lane bounds are spaced
geometrically between the shortest segment of two or more rows and the longest, so four lanes pad little
whatever the mixture. A segment of one row is its value.

Besides being fast where it is taken, a branch is opened fast: onnxruntime plans the memory of each by itself,
and its time grows faster than the number of nodes it plans at once.
"""

from __future__ import annotations

import onnx

DOMAIN, NAME, VERSION = "chronos", "GroupAttention", 1
LANES = 4
AT_ONCE = 128  # rows of a segment whose scores hardly take more memory than its keys: all tokens at once

_HEADER = """
<domain: "chronos", opset_import: ["" : 20]>
GroupAttention <num_heads, plugin_namespace, plugin_version>
(query, key, value, segment_begin, segment_end, key_mask) => (output)
{
"""

_SHAPES = """
    zero = Constant <value_ints: ints = [0]> ()
    one = Constant <value_ints: ints = [1]> ()
    two = Constant <value_ints: ints = [2]> ()
    most_rows = Constant <value_ints: ints = [@AT_ONCE@]> ()
    minus_one = Constant <value_ints: ints = [-1]> ()
    lowest = Constant <value_float: float = -3.4028234663852886e38> ()
    heads = Constant <value_ints: ints = [@HEADS@]> ()
    rows = Shape <start: int = 0, end: int = 1> (query)
    tokens = Shape <start: int = 1, end: int = 2> (query)
    width = Shape <start: int = 2, end: int = 3> (query)
    head_dim = Div (width, heads)
    begin = Cast <to: int = 7> (segment_begin)
    end = Cast <to: int = 7> (segment_end)
    length = Sub (end, begin)
    longest = ReduceMax <keepdims: int = 1> (length)
    shortest_of_all = ReduceMin <keepdims: int = 1> (length)
    equal = Equal (shortest_of_all, longest)
    not_singles = Greater (longest, one)
    equal_not_singles = And (equal, not_singles)
    one_length = Squeeze (equal_not_singles)
"""

# [units x heads, ...]: one product for each head of a unit, which is a token of a segment. Small segments are
# computed at once, large ones unit by unit, whose scores stay in the cache. onnxruntime gives a Scan views,
# so cutting copies nothing.
_PIECES = """
    products_of_{n} = Mul (units_{n}, heads)
    rows_of_{n} = Shape <start: int = -2, end: int = -1> (query_{n})
    large_{n} = Greater (rows_of_{n}, most_rows)
    pieces_{n} = Where (large_{n}, units_{n}, one)
    products_a_piece_{n} = Div (products_of_{n}, pieces_{n})
    shape_{n} = Concat <axis: int = 0> (pieces_{n}, products_a_piece_{n}, rows_of_{n}, head_dim)
    turned_shape_{n} = Concat <axis: int = 0> (pieces_{n}, products_a_piece_{n}, head_dim, rows_of_{n})
    alive_shape_of_{n} = Concat <axis: int = 0> (pieces_{n}, products_a_piece_{n}, one, rows_of_{n})
    query_pieces_{n} = Reshape <allowzero: int = 1> (query_{n}, shape_{n})
    key_pieces_{n} = Reshape <allowzero: int = 1> (key_{n}, turned_shape_{n})
    value_pieces_{n} = Reshape <allowzero: int = 1> (value_{n}, shape_{n})
    alive_pieces_{n} = Reshape <allowzero: int = 1> (alive_{n}, alive_shape_of_{n})
    mixed_pieces_{n} = Scan <num_scan_inputs: int = 4, body = piece_{n} (
        query_piece_{n}, key_piece_{n}, value_piece_{n}, alive_piece_{n}) => (mixed_piece_{n}) {{
        products_{n} = MatMul (query_piece_{n}, key_piece_{n})
        scores_{n} = Cast <to: int = 1> (products_{n})
        masked_{n} = Where (alive_piece_{n}, scores_{n}, lowest)
        softmax_{n} = Softmax <axis: int = -1> (masked_{n})
        weights_{n} = CastLike (softmax_{n}, query_piece_{n})
        mixed_piece_{n} = MatMul (weights_{n}, value_piece_{n})
    }}> (query_pieces_{n}, key_pieces_{n}, value_pieces_{n}, alive_pieces_{n})
    whole_shape_{n} = Shape (query_{n})
    mixed_{n} = Reshape <allowzero: int = 1> (mixed_pieces_{n}, whole_shape_{n})
"""

# The same at once. OpenVINO fuses it, and a Scan would keep memory of its own in every block.
_WHOLE = """
    minus_two_{n} = Constant <value_ints: ints = [-2]> ()
    alive_keys_{n} = Unsqueeze (alive_{n}, minus_two_{n})
    products_{n} = MatMul (query_{n}, key_{n})
    scores_{n} = Cast <to: int = 1> (products_{n})
    masked_{n} = Where (alive_keys_{n}, scores_{n}, lowest)
    softmax_{n} = Softmax <axis: int = -1> (masked_{n})
    weights_{n} = CastLike (softmax_{n}, query)
    mixed_{n} = MatMul (weights_{n}, value_{n})
"""

# A batch of [segments, tokens and heads], each a product over the rows of one segment.
_EQUAL = """
    segments = Div (rows, longest)
    parts = Mul (tokens, heads)
    split = Concat <axis: int = 0> (segments, longest, parts, head_dim)
    query_split = Reshape (query, split)
    query_parts = Transpose <perm: ints = [0, 2, 1, 3]> (query_split)
    key_split = Reshape (key, split)
    key_parts = Transpose <perm: ints = [0, 2, 3, 1]> (key_split)
    value_split = Reshape (value, split)
    value_parts = Transpose <perm: ints = [0, 2, 1, 3]> (value_split)
    split_mask = Concat <axis: int = 0> (segments, longest, tokens)
    mask_split = Reshape (key_mask, split_mask)
    mask_tokens = Transpose <perm: ints = [0, 2, 1]> (mask_split)
    mask_column = Unsqueeze (mask_tokens, two)
    mask_shape = Concat <axis: int = 0> (segments, tokens, heads, longest)
    alive_parts = Expand (mask_column, mask_shape)
    units_parts = Mul (segments, tokens)
{attend}
    mixed_rows = Transpose <perm: ints = [0, 2, 1, 3]> (mixed_parts)
    shape = Shape (query)
    equal_output = Reshape (mixed_rows, shape)
"""

# Per row: its place in its segment; and the bounds of the lanes.
_PLAN = """
    scalar_zero = Constant <value_int: int = 0> ()
    scalar_one = Constant <value_int: int = 1> ()
    scalar_rows = Squeeze (rows)
    position = Range (scalar_zero, scalar_rows, scalar_one)
    place = Sub (position, begin)
    leads = Equal (place, zero)
    several = Greater (length, one)
    length_of_several = Where (several, length, longest)
    shortest = ReduceMin <keepdims: int = 1> (length_of_several)
    longest_float = Cast <to: int = 1> (longest)
    shortest_float = Cast <to: int = 1> (shortest)
    spread = Div (longest_float, shortest_float)
    bound_0 = Identity (one)
    source_0 = Identity (position)
    taken_0 = Identity (rows)
"""

# The segments with previous bound < length <= bound, padded to the longest of them.
_LANE = """
    share_{n} = Constant <value_float: float = {share}> ()
    factor_{n} = Pow (spread, share_{n})
    limit_float_{n} = Mul (shortest_float, factor_{n})
    limit_round_{n} = Round (limit_float_{n})
    limit_{n} = Cast <to: int = 7> (limit_round_{n})
    bound_{n} = {bound}
    above_{n} = Greater (length, bound_{p})
    beyond_{n} = Greater (length, bound_{n})
    not_beyond_{n} = Not (beyond_{n})
    member_{n} = And (above_{n}, not_beyond_{n})
    lead_{n} = And (member_{n}, leads)
    member_length_{n} = Where (member_{n}, length, one)
    size_{n} = ReduceMax <keepdims: int = 1> (member_length_{n})
    lead_float_{n} = Cast <to: int = 1> (lead_{n})
    found_{n} = NonZero (lead_float_{n})
    starts_{n} = Reshape (found_{n}, minus_one)
    count_{n} = Shape (starts_{n})
    scalar_size_{n} = Squeeze (size_{n})
    steps_{n} = Range (scalar_zero, scalar_size_{n}, scalar_one)
    starts_column_{n} = Unsqueeze (starts_{n}, one)
    lengths_column_{n} = Gather (length, starts_column_{n})
    inside_{n} = Less (steps_{n}, lengths_column_{n})
    reach_{n} = Add (starts_column_{n}, steps_{n})
    table_{n} = Where (inside_{n}, reach_{n}, starts_column_{n})
    index_{n} = Reshape (table_{n}, minus_one)
    split_{n} = Concat <axis: int = 0> (count_{n}, size_{n}, tokens, heads, head_dim)
    split_mask_{n} = Concat <axis: int = 0> (count_{n}, size_{n}, tokens)
    padded_{n} = Mul (count_{n}, size_{n})
    joined_{n} = Concat <axis: int = 0> (padded_{n}, tokens, width)

    query_rows_{n} = Gather (query, index_{n})
    query_split_{n} = Reshape <allowzero: int = 1> (query_rows_{n}, split_{n})
    query_lane_{n} = Transpose <perm: ints = [0, 2, 3, 1, 4]> (query_split_{n})
    key_rows_{n} = Gather (key, index_{n})
    key_split_{n} = Reshape <allowzero: int = 1> (key_rows_{n}, split_{n})
    key_lane_{n} = Transpose <perm: ints = [0, 2, 3, 4, 1]> (key_split_{n})
    value_rows_{n} = Gather (value, index_{n})
    value_split_{n} = Reshape <allowzero: int = 1> (value_rows_{n}, split_{n})
    value_lane_{n} = Transpose <perm: ints = [0, 2, 3, 1, 4]> (value_split_{n})
    mask_rows_{n} = Gather (key_mask, index_{n})
    mask_split_{n} = Reshape <allowzero: int = 1> (mask_rows_{n}, split_mask_{n})
    inside_tokens_{n} = Unsqueeze (inside_{n}, two)
    inside_alive_{n} = And (mask_split_{n}, inside_tokens_{n})
    alive_tokens_{n} = Transpose <perm: ints = [0, 2, 1]> (inside_alive_{n})
    alive_column_{n} = Unsqueeze (alive_tokens_{n}, two)
    alive_shape_{n} = Concat <axis: int = 0> (count_{n}, tokens, heads, size_{n})
    alive_lane_{n} = Expand (alive_column_{n}, alive_shape_{n})
    units_lane_{n} = Mul (count_{n}, tokens)
{attend}
    mixed_rows_{n} = Transpose <perm: ints = [0, 3, 1, 2, 4]> (mixed_lane_{n})
    result_{n} = Reshape <allowzero: int = 1> (mixed_rows_{n}, joined_{n})

    lead_count_{n} = Cast <to: int = 7> (lead_{n})
    segments_so_far_{n} = CumSum (lead_count_{n}, scalar_zero)
    segment_{n} = Sub (segments_so_far_{n}, one)
    segment_row_{n} = Mul (segment_{n}, size_{n})
    row_in_lane_{n} = Add (segment_row_{n}, place)
    row_{n} = Add (row_in_lane_{n}, taken_{p})
    source_{n} = Where (member_{n}, row_{n}, source_{p})
    taken_{n} = Add (taken_{p}, padded_{n})
"""

# Singles come from the values themselves, the others from their lane.
_JOIN = """
    results = Concat <axis: int = 0> (value, {results})
    lanes_output = Gather (results, source_{last})
"""

_EITHER = """
    attended = If (one_length) <
    then_branch = equal_segments () => (equal_output) {{ {equal} }},
    else_branch = lanes () => (lanes_output) {{ {lanes} }} >
"""

# Dead tokens become 0.
_FOOTER = """
    alive_column = Unsqueeze (key_mask, two)
    nothing = CastLike (zero, query)
    output = Where (alive_column, attended, nothing)
}
"""


def nodes_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The GroupAttention nodes of a graph, one a block."""
    return [node for node in model.graph.node if (node.domain, node.op_type) == (DOMAIN, NAME)]


def num_heads_of(model: onnx.ModelProto) -> int:
    """The heads of a graph's GroupAttention nodes, of which there is at least one and all have the same."""
    return int(next(a.i for node in nodes_of(model) for a in node.attribute if a.name == "num_heads"))


def function_body(num_heads: int, branches: bool = True) -> onnx.FunctionProto:
    """The operator as an ONNX function of opset 20.

    Args:
        num_heads: Heads that the last dimension of query, key and value is split into.
        branches: Whether segments of one length have a branch of their own, and many scores are computed in
            pieces; or all go through the lanes, at once.
    """
    attend = _PIECES if branches else _WHOLE
    each = [
        _LANE.format(
            n=n,
            p=n - 1,
            share=n / LANES,
            bound="Identity (longest)" if n == LANES else f"Identity (limit_{n})",
            attend=attend.format(n=f"lane_{n}"),
        )
        for n in range(1, LANES + 1)
    ]
    results = ", ".join(f"result_{n}" for n in range(1, LANES + 1))
    lanes = _PLAN + "".join(each) + _JOIN.format(results=results, last=LANES)
    without = lanes + "attended = Identity (lanes_output)"
    equal = _EQUAL.format(attend=attend.format(n="parts"))
    attended = _EITHER.format(equal=equal, lanes=lanes) if branches else without
    shapes = _SHAPES.replace("@HEADS@", str(num_heads)).replace("@AT_ONCE@", str(AT_ONCE))
    return onnx.parser.parse_function(_HEADER + shapes + attended + _FOOTER)
