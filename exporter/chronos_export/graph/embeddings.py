"""The encoder's answer as a graph of its own: every token of every row, and the statistics of the row.

Source: chronos-forecasting 2.3.2, `Chronos2Pipeline.embed` and `Chronos2Model.encode`: one output token, of
which no covariate is known.
"""

from __future__ import annotations

import onnx

from chronos_export.graph.assembling import as_model
from chronos_export.graph.builder import GraphBuilder
from chronos_export.graph.chronos2 import encode, enter, sort_rows
from chronos_export.graph.precision import Precision
from chronos_export.graph_contract import EMBEDDING_INPUTS, EMBEDDING_OUTPUTS
from chronos_export.model.segmented import SegmentedChronos2


def write_embedding_graph(model: SegmentedChronos2, precision: Precision) -> onnx.ModelProto:
    """The graph that embeds, weights inside: [rows, tokens, d_model], and [rows, 1] twice.

    Args:
        model: The rewritten model.
        precision: What the products are computed in.
    """
    g, s = GraphBuilder(precision), model.sizes
    segments, width = sort_rows(g), model.reg_token.shape[1]
    context = g.Gather("context", segments.order, axis=0)
    unknown = g.Concat(g.Shape(context, start=0, end=1), g.ints(s.patch), axis=0)
    unseen = g.Expand(g.number(float("nan")), unknown)
    tokens, alive, _, loc, scale = enter(g, model, context, unseen)
    hidden = g.wide(encode(g, model.encoder, tokens, alive, g.ints(0), segments))  # from token 0: all
    for name, of_sorted in zip(EMBEDDING_OUTPUTS, (hidden, loc, scale), strict=True):
        g.Gather(of_sorted, segments.rank, axis=0)
        g.nodes[-1].output[0] = name
    shapes = (("rows", "tokens", int(width)), ("rows", 1), ("rows", 1))
    return as_model(g, s.num_heads, EMBEDDING_INPUTS, dict(zip(EMBEDDING_OUTPUTS, shapes, strict=True)))
