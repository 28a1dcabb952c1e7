"""Quantiles between quantile forecasts, and quantiles of many forecasts together.

Derived from `chronos/utils.py` of chronos-forecasting 2.3.2 and equal to it to the bit: the float32
operations and their order are the same. PyTorch adds cumulative weights in float64; for what weights are
divided by, see `_total`. One thing is settled here that upstream leaves to the processor: equal samples
keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chronos_export.errors import UsageError
from chronos_export.runtime.session import Floats

Levels = Sequence[float] | Floats
BLOCK = 2048  # rows sorted at a time: what 189 samples each need stays in a cache
LANES, AT_ONCE = 8, 4  # floats of a vector, and vectors at a time, of PyTorch's sums on x86


def interpolate(queries: Levels, levels: Levels, values: Floats) -> Floats:
    """Interpolate linearly between quantiles; beyond the outermost levels their values stay.

    Args:
        queries: Levels to have, in [0, 1].
        levels: Levels that there are, in [0, 1].
        values: float32 [..., levels].

    Returns:
        float32 [..., queries].

    Raises:
        UsageError: A level is not in [0, 1].
    """
    wanted, given = (np.asarray(listed, dtype=np.float32) for listed in (queries, levels))
    for name, found in (("query_quantile_levels", wanted), ("original_quantile_levels", given)):
        if found.min() < 0 or found.max() > 1:
            raise UsageError(f"`{name}` must be between 0 and 1, not {found.min():g} to {found.max():g}")
    order = np.argsort(given)
    return _between(wanted, given[order].reshape((1,) * (values.ndim - 1) + order.shape), values[..., order])


def weighted(queries: Levels, weights: Floats, samples: Floats) -> Floats:
    """Return quantiles of samples that stand for different shares of the probability.

    Args:
        queries: Levels to have, in (0, 1).
        weights: float32 [samples], above 0.
        samples: float32 [rows, samples].

    Returns:
        float32 [rows, queries].
    """
    wanted = np.asarray(queries, dtype=np.float32)
    shares = (weights / _total(weights)).astype(np.float64)
    out = np.empty((len(samples), len(wanted)), dtype=np.float32)
    for begin in range(0, len(samples), BLOCK):
        block = samples[begin : begin + BLOCK]
        order = np.argsort(block, axis=1, kind="stable")
        levels = np.minimum(np.cumsum(shares[order], axis=1).astype(np.float32), np.float32(1))
        out[begin : begin + BLOCK] = _between(wanted, levels, np.take_along_axis(block, order, axis=1))
    return out


def masses(levels: Levels) -> Floats:
    """Return the share of the probability that each quantile stands for.

    Half of what lies between its neighbours; 0 and 1 are the outermost ones'.

    Args:
        levels: In (0, 1), ascending.

    Returns:
        float32 [levels], of sum 1.
    """
    bounds = np.array([0, *levels, 1], dtype=np.float32)
    widths = (bounds[2:] - bounds[:-2]) / np.float32(2)
    shares: Floats = widths / _total(widths)
    return shares


def _between(wanted: Floats, levels: Floats, values: Floats) -> Floats:
    """The values at `wanted`; `levels` ascend along the last axis and broadcast against `values`."""
    if levels.min() > 0:
        levels, values = _with(0, levels), np.concatenate([values[..., :1], values], axis=-1)
    if levels.max() < 1:
        levels, values = _with(1, levels), np.concatenate([values, values[..., -1:]], axis=-1)
    count = np.stack([np.count_nonzero(levels <= level, axis=-1) for level in wanted], axis=-1)
    above = np.minimum(count, levels.shape[-1] - 1)
    low, high = (np.take_along_axis(levels, at, axis=-1) for at in (above - 1, above))
    below, beyond = (np.take_along_axis(values, at, axis=-1) for at in (above - 1, above))
    with np.errstate(all="ignore"):  # what is not finite stays so, in silence
        share = np.nan_to_num((wanted - low) / (high - low))
        out: Floats = below + share * (beyond - below)
    return out


def _with(level: int, levels: Floats) -> Floats:
    """Ascending levels with 0 before or 1 after them."""
    edge = np.full_like(levels[..., :1], level)
    return np.concatenate([levels, edge] if level else [edge, levels], axis=-1)


def _total(values: Floats) -> np.float32:
    """The sum of a few float32, added in the order in which PyTorch adds them on x86.

    Vectors of `LANES` are summed, every `AT_ONCE`-th together, then those sums. To what fills no vector, the
    lanes of that are added one by one.
    """
    width = LANES if len(values) >= LANES else 1
    vectors = values[: len(values) // width * width].reshape(-1, width)
    whole = len(vectors) // AT_ONCE * AT_ONCE
    side_by_side = np.zeros((AT_ONCE, width), dtype=np.float32)
    for group in vectors[:whole].reshape(-1, AT_ONCE, width):
        side_by_side += group
    for vector in vectors[whole:]:
        side_by_side[0] += vector
    lanes = side_by_side[0]
    for other in side_by_side[1:]:
        lanes = lanes + other
    total = np.float32(0)
    for value in (*values[vectors.size :], *lanes):
        total += value
    return total
