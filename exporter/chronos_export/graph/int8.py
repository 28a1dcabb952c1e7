"""Products of 8-bit integers, as `--dtype int8` computes them on a CPU.

    x [.., K] float32   one scale a token:   uint8, around 128, or from 0 where nothing is negative
    W [K, N]            one scale a column:  int8
    x W = (x8 - zero) W8 * the token's scale * the column's scale, summed in int32

A token is rounded by its own values alone, so a forecast does not depend on the rows that share its call.

x86 without VNNI adds two neighbouring products in 16 bits, which saturate at 32767 (`vpmaddubsw`). A column
is scaled so that two neighbours of one sign come to 128 at most, and 255 times 128 fits. So every processor
computes the same integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from chronos_export.graph.builder import GraphBuilder

LEVELS = 127  # of a sign, for a token or for two neighbouring weights
TINY = 1e-30  # the scale of a token of zeros


def quantized_product(g: GraphBuilder, name: str, x: str, weight: NDArray[np.float32]) -> str:
    """x W in 8-bit integers.

    Args:
        g: Where the nodes go.
        name: Of the weight.
        x: float32 [.., K]; out of a relu it uses all 256 levels.
        weight: float32 [K, N].

    Returns:
        float32 [.., N].
    """
    rounded, scale = round_columns(weight)
    tokens, zero, token_scale = g.once("uint8", x, lambda: _quantized_tokens(g, x))
    product = g.MatMulInteger(tokens, g.weight(name, rounded), zero)
    product = g.Mul(g.Cast(product, to=TensorProto.FLOAT), g.weight(f"{name}.scale", scale))
    return str(g.Mul(product, token_scale))


def _quantized_tokens(g: GraphBuilder, x: str) -> tuple[str, str, str]:
    """The uint8 values of `x`, their zero and their scales."""
    non_negative = g.comes_from(x, "Relu")
    levels, zero = (255, 0) if non_negative else (LEVELS, 128)
    largest = g.ReduceMax(x if non_negative else g.Abs(x), g.ints(-1))
    scale = g.Div(g.Max(largest, g.number(TINY)), g.number(float(levels)))
    zero_point = g.weight(f"uint8_{zero}", np.array(zero, np.uint8))
    return g.QuantizeLinear(g.Div(x, scale), g.number(1.0), zero_point), zero_point, scale


def round_columns(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 columns and their scales; each of two neighbours is rounded up by half a level at most."""
    neighbours = np.pad(weight, ((0, len(weight) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
    sums = [np.maximum(sign * neighbours, 0).sum(axis=1).max(axis=0) for sign in (1, -1)]
    scale = np.maximum(np.maximum(*sums), np.float32(TINY)) / np.float32(LEVELS)
    return np.round(weight / scale).astype(np.int8), scale
