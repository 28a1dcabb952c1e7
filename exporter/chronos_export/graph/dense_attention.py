"""Group attention as upstream and the public ONNX exports compute it: over the whole batch, under a mask.

Standard operators that every runtime has, none of them data-dependent; time and memory grow with rows^2.
"""

from __future__ import annotations

import onnx

_BODY = """
<domain: "chronos", opset_import: ["" : 20]>
GroupAttention <num_heads, plugin_namespace, plugin_version>
(query, key, value, segment_begin, segment_end, key_mask) => (output)
{
    zero = Constant <value_ints: ints = [0]> ()
    one = Constant <value_ints: ints = [1]> ()
    split = Constant <value_ints: ints = [0, 0, @HEADS@, -1]> ()
    join = Constant <value_ints: ints = [0, 0, -1]> ()
    lowest = Constant <value_float: float = -3.4028234663852886e38> ()
    zero_float = Constant <value_float: float = 0.0> ()
    query_split = Reshape (query, split)
    key_split = Reshape (key, split)
    value_split = Reshape (value, split)
    query_heads = Transpose <perm: ints = [1, 2, 0, 3]> (query_split)
    key_heads = Transpose <perm: ints = [1, 2, 3, 0]> (key_split)
    value_heads = Transpose <perm: ints = [1, 2, 0, 3]> (value_split)
    begin_down = Unsqueeze (segment_begin, one)
    begin_across = Unsqueeze (segment_begin, zero)
    same = Equal (begin_down, begin_across)
    alive = Transpose <perm: ints = [1, 0]> (key_mask)
    alive_keys = Unsqueeze (alive, one)
    seen = And (same, alive_keys)
    bias = Where (seen, zero_float, lowest)
    bias_heads = Unsqueeze (bias, one)
    products = MatMul (query_heads, key_heads)
    wide = Cast <to: int = 1> (products)
    scores = Add (wide, bias_heads)
    shares = Softmax <axis: int = -1> (scores)
    weights = CastLike (shares, query)
    mixed = MatMul (weights, value_heads)
    mixed_rows = Transpose <perm: ints = [2, 0, 1, 3]> (mixed)
    output = Reshape (mixed_rows, join)
}
"""


def dense_body(num_heads: int) -> onnx.FunctionProto:
    """`chronos::GroupAttention` computed densely; forecasts are the same, only dead tokens differ."""
    return onnx.parser.parse_function(_BODY.replace("@HEADS@", str(num_heads)))
