"""Chronos-2 as an ONNX graph: `model.py` once more, operator by operator.

The graph is written node by node rather than traced: tracing three free dimensions takes minutes and leaves
its shape arithmetic behind, while this takes milliseconds and names every node after its layer. That both
forms are one model is what validation proves, on every export.

Shape letters are those of `model.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from chronos_export.graph import group_attention as body
from chronos_export.graph.activations import require_activation
from chronos_export.graph.assembling import as_model
from chronos_export.graph.builder import GraphBuilder
from chronos_export.graph.int8 import quantized_product
from chronos_export.graph.precision import PRECISIONS, Precision
from chronos_export.graph_contract import INPUTS, OUTPUT, UNIVARIATE_INPUTS
from chronos_export.model import segmented as m
from chronos_export.model.numerics import SCALE_OF_CONSTANT

LOWEST = float(np.finfo(np.float32).min)
END = 2**63 - 1


def write_graph(model: m.SegmentedChronos2, precision: Precision = PRECISIONS["float32"]) -> onnx.ModelProto:
    """The graph of a rewritten model, weights inside.

    Args:
        model: `SegmentedChronos2`, or `UnivariateChronos2` for the graph without group ids.
        precision: What the products are computed in.

    Raises:
        UsageError: If the model has an activation that is not written here.
    """
    general = not isinstance(model, m.UnivariateChronos2)
    g = GraphBuilder(precision)
    context, future, segments = "context", "future_covariates", None
    if general:
        segments = sort_rows(g)
        context, future = g.Gather(context, segments.order, axis=0), g.Gather(future, segments.order, axis=0)
    forecast = _forecast(g, model, context, future, segments)
    if segments:
        forecast = g.Gather(forecast, segments.rank, axis=0)
    g.nodes[-1].output[0] = OUTPUT
    forecasts: list[str | int] = ["rows", model.sizes.quantiles, "forecast_length"]
    return as_model(g, model.sizes.num_heads, INPUTS if general else UNIVARIATE_INPUTS, {OUTPUT: forecasts})


@dataclass(frozen=True)
class Segments:
    """See `sorting.Segments`; the names of tensors."""

    order: str
    rank: str
    begin: str
    end: str


def sort_rows(g: GraphBuilder) -> Segments:
    """Sort by group; see `sorting.sort_rows`.

    By counting comparisons, because TensorRT's TopK ends at 3840 elements.
    """
    with g.scope("sort"):
        down, across = g.Unsqueeze("group_ids", g.ints(1)), g.Unsqueeze("group_ids", g.ints(0))
        rows = g.Squeeze(g.Shape("group_ids"))
        position = g.Range(g.integer(0), rows, g.integer(1))
        before = g.Less(g.Unsqueeze(position, g.ints(0)), g.Unsqueeze(position, g.ints(1)))
        same = g.Equal(across, down)

        def count(where: str) -> str:
            return str(g.ReduceSum(g.Cast(where, to=TensorProto.INT32), g.ints(1), keepdims=0))

        begin = count(g.Less(across, down))
        end = g.Add(begin, count(same))
        rank = g.Cast(g.Add(begin, count(g.And(same, before))), to=TensorProto.INT64)
        order = g.ScatterElements(position, rank, position, axis=0)
        return Segments(order, rank, g.Gather(begin, order), g.Gather(end, order))


def _forecast(
    g: GraphBuilder, model: m.SegmentedChronos2, context: str, future: str, segments: Segments | None
) -> str:
    """See `SegmentedChronos2._forecast`."""
    s = model.sizes
    tokens, alive, first, loc, scale = enter(g, model, context, future)
    hidden = encode(g, model.encoder, tokens, alive, first, segments)
    with g.scope("head"):
        out = g.wide(_residual_mlp(g, "head", model.head, s, hidden))
        out = g.Reshape(out, g.ints(0, -1, s.quantiles, s.patch))
        out = g.Reshape(g.Transpose(out, perm=[0, 2, 1, 3]), g.ints(0, s.quantiles, -1))
        if s.use_arcsinh:
            out = g.Mul(g.Sub(g.Exp(out), g.Exp(g.Neg(out))), g.number(0.5))
        scale, loc = g.Unsqueeze(scale, g.ints(1)), g.Unsqueeze(loc, g.ints(1))
        return str(g.Add(g.Mul(out, scale), loc))


def enter(
    g: GraphBuilder, model: m.SegmentedChronos2, context: str, future: str
) -> tuple[str, str, str, str, str]:
    """Write rows as tokens; see `SegmentedChronos2._forecast`.

    Returns:
        The tokens, which of them are alive, the first output token, and each row's loc and scale.
    """
    s = model.sizes
    with g.scope("entry"):
        context = g.Slice(context, g.ints(-s.context_length), g.ints(END), g.ints(1))
        context, observed = _split_missing(g, context, s.patch, left=True)
        future, known = _split_missing(g, future, s.patch, left=False)
        loc, scale = _location_and_scale(g, context, observed)
        patches = _patches(g, s, context, observed, future, known, loc, scale)
        rows, past = g.Shape(context, start=0, end=1), g.Div(g.Shape(context, start=1), g.ints(s.patch))
        embedded = g.wide(_residual_mlp(g, "embedding", model.embedding, s, g.narrow(patches), rounded=True))
        reg = g.weight("reg_token", _values(model.reg_token[s.reg_token_id])[None, None])
        reg = g.Expand(reg, g.Concat(rows, g.ints(1), g.ints(1), axis=0))
        before = g.Slice(embedded, g.ints(0), past, g.ints(1))
        after = g.Slice(embedded, past, g.ints(END), g.ints(1))
        tokens = g.Concat(before, reg, after, axis=1)
        alive = _alive(g, s, observed, future, rows)
        first = g.Add(past, g.ints(1))
    return tokens, alive, first, loc, scale


def _split_missing(g: GraphBuilder, x: str, patch: int, left: bool) -> tuple[str, str]:
    """Values with 0 in the gaps, 1.0 where present; both padded with 0 to whole patches."""
    missing = g.IsNaN(x)
    present = g.Cast(g.Not(missing), to=TensorProto.FLOAT)
    values = g.Where(missing, g.number(0.0), x)
    length = g.Shape(x, start=1)
    whole = g.Mul(g.Div(g.Add(length, g.ints(patch - 1)), g.ints(patch)), g.ints(patch))
    added = g.Sub(whole, length)
    pads = (g.ints(0), added, g.ints(0, 0)) if left else (g.ints(0, 0, 0), added)
    pads = g.Concat(*pads, axis=0)
    return g.Pad(values, pads), g.Pad(present, pads)


def _location_and_scale(g: GraphBuilder, x: str, observed: str) -> tuple[str, str]:
    """See `numerics.location_and_scale`."""
    count = g.ReduceSum(observed, g.ints(1))
    divisor = g.Max(count, g.number(1.0))
    mean = g.Div(g.ReduceSum(x, g.ints(1)), divisor)
    rest = g.ReduceSum(g.Mul(observed, g.Sub(x, mean)), g.ints(1))
    closer = g.Add(mean, g.Div(rest, divisor))
    clamped = g.Where(g.IsNaN(mean), g.number(0.0), mean)
    clamped = g.Max(g.Min(clamped, g.number(-LOWEST)), g.number(LOWEST))
    loc = g.Where(g.Less(g.Abs(closer), g.number(-LOWEST)), closer, clamped)
    centred = g.Mul(g.Sub(x, loc), observed)
    scale = g.Sqrt(g.Div(g.ReduceSum(g.Mul(centred, centred), g.ints(1)), divisor))
    scale = g.Min(scale, g.number(-LOWEST))
    scale = g.Where(g.Equal(scale, g.number(0.0)), g.number(SCALE_OF_CONSTANT), scale)
    return loc, g.Where(g.Equal(count, g.number(0.0)), g.number(1.0), scale)


def _patches(
    g: GraphBuilder, s: m.Sizes, context: str, observed: str, future: str, known: str, loc: str, scale: str
) -> str:
    """See `SegmentedChronos2._patches`."""
    present = g.Concat(observed, known, axis=1)
    x = g.Div(g.Sub(g.Concat(context, future, axis=1), loc), scale)
    if s.use_arcsinh:
        x = _arcsinh(g, x)
    x = g.Where(g.Greater(present, g.number(0.0)), x, g.number(0.0))
    length = g.Squeeze(g.Shape(x, start=1))
    start = g.Squeeze(g.Shape(context, start=1))
    steps = g.Sub(g.Range(g.integer(0), length, g.integer(1)), start)
    time = g.Div(g.Cast(steps, to=TensorProto.FLOAT), g.number(s.time_scale))
    time = g.Expand(time, g.Shape(x))
    return str(g.Concat(*(g.Reshape(part, g.ints(0, -1, s.patch)) for part in (time, x, present)), axis=2))


def _arcsinh(g: GraphBuilder, x: str) -> str:
    """See `numerics.arcsinh`."""
    size = g.Abs(x)
    inner = g.Min(size, g.number(1e9))
    root = g.Sqrt(g.Add(g.Mul(inner, inner), g.number(1.0)))
    beyond = g.Log(g.Div(g.Max(size, g.number(1e9)), g.number(1e9)))
    return str(g.Mul(g.Sign(x), g.Add(g.Log(g.Add(inner, root)), beyond)))


def _alive(g: GraphBuilder, s: m.Sizes, observed: str, future: str, rows: str) -> str:
    """bool [R, S]: context patches with an observation, the [REG] token and all future tokens."""
    past = g.ReduceMax(g.Reshape(observed, g.ints(0, -1, s.patch)), g.ints(2), keepdims=0)
    ahead = g.Div(g.Shape(future, start=1), g.ints(s.patch))
    rest = g.Expand(g.number(1.0), g.Concat(rows, g.Add(ahead, g.ints(1)), axis=0))
    return str(g.Greater(g.Concat(past, rest, axis=1), g.number(0.0)))


def encode(
    g: GraphBuilder, encoder: m.Encoder, x: str, alive: str, first: str, segments: Segments | None
) -> str:
    """Write the blocks and the final norm; see `Encoder.forward`."""
    rope = _rope(g, encoder.sizes, x)
    bias = g.Where(alive, g.number(0.0), g.number(LOWEST))
    bias = g.Unsqueeze(bias, g.ints(1, 2))
    last = len(encoder.blocks) - 1
    for number, block in enumerate(encoder.blocks):
        with g.scope(f"blocks.{number}"):
            x = _block(
                g, block, encoder.sizes, x, rope, bias, alive, first if number == last else "", segments
            )
    return _norm(g, "final_norm", encoder.final_norm, x)


def _block(
    g: GraphBuilder,
    block: nn.Module,
    s: m.Sizes,
    x: str,
    rope: tuple[str, str],
    bias: str,
    alive: str,
    first: str,
    segments: Segments | None,
) -> str:
    """See `Block.forward`; an empty `first` keeps all tokens."""
    assert isinstance(block, m.Block)

    def wanted(value: str) -> str:
        return str(g.Slice(value, first, g.ints(END), g.ints(1))) if first else value

    with g.scope("time"):
        normed = _norm(g, "norm", block.time_norm, x)
        query = _heads(g, s, _product(g, "q", block.time.q, wanted(normed)))
        key = _heads(g, s, _product(g, "k", block.time.k, normed))
        value = _heads(g, s, _product(g, "v", block.time.v, normed))
        cos, sin = rope
        cos_query, sin_query = [g.Slice(t, first, g.ints(END), g.ints(0)) if first else t for t in rope]
        query, key = _rotate(g, query, cos_query, sin_query), _rotate(g, key, cos, sin)
        scores = g.Add(g.wide(g.MatMul(query, g.Transpose(key, perm=[0, 1, 3, 2]))), bias)
        mixed = g.Transpose(g.MatMul(g.narrow(g.Softmax(scores, axis=-1)), value), perm=[0, 2, 1, 3])
        mixed = g.Reshape(mixed, g.ints(0, 0, s.num_heads * s.head_dim))
        x = g.Add(wanted(x), g.wide(_product(g, "o", block.time.o, mixed)))
    with g.scope("group"):
        update = _group(g, block, s, _norm(g, "norm", block.group_norm, x), wanted(alive), segments)
        x = g.Add(x, g.wide(update))
    with g.scope("feed_forward"):
        hidden = _product(g, "wi", block.feed_forward.wi, _norm(g, "norm", block.forward_norm, x))
        hidden = _activate(g, s, hidden)
        return str(g.Add(x, g.wide(_product(g, "wo", block.feed_forward.wo, hidden))))


def _group(g: GraphBuilder, block: m.Block, s: m.Sizes, x: str, alive: str, segments: Segments | None) -> str:
    if isinstance(block.group, m.SingleRow):
        return _product(g, "vo", block.group.vo, x)
    assert segments is not None
    query, key, value = (_product(g, name, getattr(block.group, name), x) for name in "qkv")
    mixed = g.node(
        body.NAME,
        *(query, key, value, segments.begin, segments.end, alive),
        domain=body.DOMAIN,
        num_heads=s.num_heads,
        plugin_namespace=body.DOMAIN,
        plugin_version=str(body.VERSION),
    )
    return _product(g, "o", block.group.o, mixed)


def _rope(g: GraphBuilder, s: m.Sizes, x: str) -> tuple[str, str]:
    """See `numerics.rope_tables`."""
    with g.scope("rope"):
        frequency = 1.0 / np.float32(s.rope_theta) ** (
            np.arange(0, s.head_dim, 2, dtype=np.float32) / np.float32(s.head_dim)
        )
        tokens = g.Squeeze(g.Shape(x, start=1, end=2))
        position = g.Cast(g.Range(g.integer(0), tokens, g.integer(1)), to=TensorProto.FLOAT)
        angle = g.Mul(g.Unsqueeze(position, g.ints(1)), g.weight("rope_frequency", frequency[None]))
        cos, sin = g.Cos(angle), g.Sin(angle)
        cos, sin = g.Concat(cos, cos, axis=1), g.Concat(g.Neg(sin), sin, axis=1)
        return g.narrow(cos), g.narrow(sin)


def _rotate(g: GraphBuilder, x: str, cos: str, sin: str) -> str:
    """See `numerics.rotate`."""
    lower, upper = g.Split(x, axis=-1, num_outputs=2, outputs=2)
    return str(g.Add(g.Mul(x, cos), g.Mul(g.Concat(upper, lower, axis=-1), sin)))


def _heads(g: GraphBuilder, s: m.Sizes, x: str) -> str:
    return str(g.Transpose(g.Reshape(x, g.ints(0, 0, s.num_heads, s.head_dim)), perm=[0, 2, 1, 3]))


def _norm(g: GraphBuilder, name: str, norm: m.RMSNorm, x: str) -> str:
    """See `RMSNorm`; in the pattern that ONNX Runtime fuses, from float32 to narrow."""
    weight = f"{g.scope_name}{name}.weight"
    with g.scope(name):
        mean = g.ReduceMean(g.Pow(x, g.number(2.0)), g.ints(-1))
        normed = g.Div(x, g.Sqrt(g.Add(mean, g.number(norm.eps))))
        return g.narrow(g.Mul(normed, g.weight(weight, _values(norm.weight))))


def _product(g: GraphBuilder, name: str, linear: nn.Module, x: str) -> str:
    """A product with a weight that may be rounded."""
    return _linear(g, name, linear, x, rounded=True)


def _linear(g: GraphBuilder, name: str, linear: nn.Module, x: str, rounded: bool = False) -> str:
    """A product with a weight; if it may be `rounded`, as `int8` does it where that is asked for."""
    assert isinstance(linear, nn.Linear)
    prefix, weight = f"{g.scope_name}{name}", _values(linear.weight).T
    kind = g.precision.numpy_type
    with g.scope(name):
        if rounded and g.precision.is_quantized:
            out = quantized_product(g, f"{prefix}.weight", x, weight)
        else:
            out = g.MatMul(x, g.weight(f"{prefix}.weight", weight.astype(kind)))
        if linear.bias is not None:
            out = g.Add(out, g.weight(f"{prefix}.bias", _values(linear.bias).astype(kind)))
        return str(out)


def _residual_mlp(
    g: GraphBuilder, name: str, block: m.ResidualMLP, s: m.Sizes, x: str, rounded: bool = False
) -> str:
    """See `ResidualMLP`; its last product is one that may be rounded, or not."""
    with g.scope(name):
        hidden = _activate(g, s, _linear(g, "hidden", block.hidden, x))
        output = _linear(g, "output", block.output, hidden, rounded)
        return str(g.Add(output, _linear(g, "residual", block.residual, x)))


def _activate(g: GraphBuilder, s: m.Sizes, x: str) -> str:
    require_activation(s.activation)
    if s.activation == "relu":
        return str(g.Relu(x))
    if s.activation == "gelu":
        return str(g.Gelu(x))
    return str(g.Mul(x, g.Sigmoid(x)))  # silu, or swish, as it is called too


def _values(tensor: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return values
