"""The named inputs that the accuracy contract is checked on.

Each case is one call of the graph. Its name says what it is meant to catch; together they cover every promise
of the README's section on exactness and every edge of upstream's forward that an exporter has got wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chronos_export.graph_contract import INPUTS

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
# Asked once more with every row a group of its own, so that `univariate.onnx` answers them too.
APART = {
    "nan_gaps",
    "all_nan_row",
    "constant_rows",
    "scales_within_a_group",
    "ragged_lengths",
    "context_of_one_step",
    "context_past_the_limit",
    "longest_horizon",
    "partial_covariates",
    "flag_covariate",
    "overflowing_sums",
}
_CASES: dict[str, Callable[[_Maker], Case]] = {}


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        name: What it is meant to catch.
        context: float32 [rows, context_length], NaN = missing.
        group_ids: int64 [rows].
        future_covariates: float32 [rows, horizon], NaN = unknown.
    """

    name: str
    context: Floats
    group_ids: Ints
    future_covariates: Floats

    @property
    def feed(self) -> dict[str, NDArray[np.generic]]:
        """The graph's inputs by name."""
        return {name: getattr(self, name) for name in INPUTS}

    @property
    def is_univariate(self) -> bool:
        """Whether every row is a group of its own, so that `univariate.onnx` must answer it too."""
        return len(np.unique(self.group_ids)) == len(self.group_ids)


def all_cases(patch: int, context_length: int, max_output_patches: int) -> Iterator[Case]:
    """Every case, sized to a model.

    Args:
        patch: Time steps a patch.
        context_length: The model's longest context, in time steps.
        max_output_patches: The model's longest horizon, in patches.

    Yields:
        Cases in a fixed order, the same values on every call.
    """
    for number, make in enumerate(_CASES.values()):
        case = make(_Maker(np.random.default_rng(number), patch, context_length, max_output_patches))
        yield case
        if case.name in APART:
            yield replace(case, name=f"{case.name}_apart", group_ids=np.arange(len(case.group_ids)))


@dataclass
class _Maker:
    random: np.random.Generator
    patch: int
    context_length: int
    max_output_patches: int

    def series(self, rows: int, length: int) -> Floats:
        """Seasonal, drifting, noisy rows, each with a level and a spread of its own."""
        steps = np.arange(length)
        period = self.random.uniform(4, 40, (rows, 1))
        wave = np.sin(2 * np.pi * steps / period + self.random.uniform(0, 6, (rows, 1)))
        drift = self.random.normal(0, 0.15, (rows, length)).cumsum(axis=1)
        noise = self.random.normal(0, 0.2, (rows, length))
        level, spread = self.random.normal(0, 5, (rows, 1)), self.random.uniform(0.5, 3, (rows, 1))
        values: Floats = (level + spread * (wave + drift + noise)).astype(np.float32)
        return values

    def unknown(self, rows: int, horizon: int) -> Floats:
        return np.full((rows, horizon), np.nan, dtype=np.float32)

    def case(
        self, ids: list[int] | Ints, context: Floats | None = None, future: Floats | None = None
    ) -> Case:
        """A case of the given group ids; five and a bit patches of context, two of horizon unless given."""
        context = self.series(len(ids), 5 * self.patch + 3) if context is None else context
        future = self.unknown(len(ids), 2 * self.patch) if future is None else future
        return Case("", context, np.asarray(ids, dtype=np.int64), future)


def _case(make: Callable[[_Maker], Case]) -> Callable[[_Maker], Case]:
    _CASES[make.__name__] = lambda maker: replace(make(maker), name=make.__name__)
    return make


@_case
def one_row(m: _Maker) -> Case:
    return m.case([0])


@_case
def singles(m: _Maker) -> Case:
    return m.case(list(range(7)))


@_case
def one_group(m: _Maker) -> Case:
    """Cross learning: every row attends every row."""
    return m.case([0] * 12)


@_case
def unsorted_ids(m: _Maker) -> Case:
    return m.case([2, 0, 1, 0, 2, 1, 0, 2, 1])


@_case
def negative_and_huge_ids(m: _Maker) -> Case:
    big = 2**63 - 1
    return m.case([-1, big, -(2**63), 7, big, -1, -(2**63), 2**31, 2**32])


@_case
def mixed_group_sizes(m: _Maker) -> Case:
    sizes = [1, 9, 1, 2, 4, 1, 17, 3]
    return m.case(m.random.permutation(np.repeat(np.arange(len(sizes)), sizes)))


@_case
def groups_of_twenty(m: _Maker) -> Case:
    return m.case(np.repeat(np.arange(3), 20))


@_case
def nan_gaps(m: _Maker) -> Case:
    context = m.series(6, 9 * m.patch + 5)
    context[m.random.random(context.shape) < 0.3] = np.nan
    context[2, 3 * m.patch : 6 * m.patch] = np.nan
    return m.case([0, 0, 0, 1, 1, 2], context)


@_case
def dead_segment(m: _Maker) -> Case:
    """At some tokens no row of group 0 is alive, while group 1 is."""
    context = m.series(5, 8 * m.patch)
    context[:3, 2 * m.patch : 5 * m.patch] = np.nan
    return m.case([0, 0, 0, 1, 1], context)


@_case
def all_nan_row(m: _Maker) -> Case:
    context = m.series(4, 5 * m.patch)
    context[1] = np.nan
    context[3] = np.nan
    return m.case([0, 0, 1, 2], context)


@_case
def constant_rows(m: _Maker) -> Case:
    context = m.series(5, 5 * m.patch)
    context[0], context[2], context[4] = 7.0, 0.0, -1024.0
    return m.case([0, 0, 1, 1, 2], context)


@_case
def tiny_scale(m: _Maker) -> Case:
    return m.case([0, 0, 1], m.series(3, 6 * m.patch) * np.float32(1e-6))


@_case
def huge_scale(m: _Maker) -> Case:
    return m.case([0, 0, 1], m.series(3, 6 * m.patch) * np.float32(1e9))


@_case
def scales_within_a_group(m: _Maker) -> Case:
    scales = np.array([[1e-6], [1.0], [1e9], [1e3]], dtype=np.float32)
    return m.case([0, 0, 0, 0], m.series(4, 6 * m.patch) * scales)


@_case
def high_level(m: _Maker) -> Case:
    """A small movement on a high level: what float32 leaves of it is upstream's own noise."""
    return m.case([0, 0, 1], m.series(3, 6 * m.patch) + np.float32(1e5))


@_case
def ragged_lengths(m: _Maker) -> Case:
    """Left-padded with NaN to the longest, as upstream's data loader does."""
    context = m.series(7, 9 * m.patch + 7)
    for row, length in enumerate([3, 16, 17, 60, 100, 9 * m.patch + 7, 1]):
        context[row, : max(0, context.shape[1] - length)] = np.nan
    return m.case([0, 0, 1, 1, 2, 2, 3], context)


@_case
def context_of_one_step(m: _Maker) -> Case:
    return m.case([0, 0, 1], m.series(3, 1))


@_case
def context_of_whole_patches(m: _Maker) -> Case:
    return m.case([0, 1, 0], m.series(3, 4 * m.patch))


@_case
def context_past_the_limit(m: _Maker) -> Case:
    """Steps beyond the model's context are dropped before anything is computed from them."""
    context = m.series(3, m.context_length + m.patch + 3)
    context[:, : m.patch] += 1000
    return m.case([0, 0, 1], context)


@_case
def left_padding(m: _Maker) -> Case:
    """Whole patches of NaN on the left, in every row."""
    context = m.series(4, 7 * m.patch)
    context[:, : 3 * m.patch + 2] = np.nan
    return m.case([0, 0, 1, 1], context)


@_case
def pad_rows(m: _Maker) -> Case:
    """Rows added to fill a profile, each a group of its own."""
    context = m.series(8, 5 * m.patch)
    context[5:] = np.nan
    return m.case([0, 0, 1, 1, 2, -1, -2, -3], context)


@_case
def horizon_of_one_step(m: _Maker) -> Case:
    return m.case([0, 0, 1], future=m.unknown(3, 1))


@_case
def horizon_of_three_patches(m: _Maker) -> Case:
    return m.case([0, 0, 1], future=m.unknown(3, 3 * m.patch))


@_case
def longest_horizon(m: _Maker) -> Case:
    return m.case([0, 0, 1], future=m.unknown(3, m.max_output_patches * m.patch))


@_case
def known_covariates(m: _Maker) -> Case:
    """Two targets with two covariates known ahead, and a target without any."""
    future = m.unknown(5, 2 * m.patch)
    future[2:4] = m.series(2, 2 * m.patch)
    return m.case([0, 0, 0, 0, 1], future=future)


@_case
def partial_covariates(m: _Maker) -> Case:
    """Known for some steps only, with a horizon that is no whole number of patches."""
    future = m.unknown(4, 2 * m.patch + 5)
    future[1, :7] = m.series(1, 7)[0]
    future[2] = m.series(1, future.shape[1])[0]
    future[2, ::3] = np.nan
    return m.case([0, 0, 0, 1], future=future)


@_case
def flag_covariate(m: _Maker) -> Case:
    """0 in the context, 1 ahead: normalized to 1e5 before arcsinh."""
    context = m.series(3, 5 * m.patch)
    context[1] = 0.0
    future = m.unknown(3, m.patch)
    future[1] = 1.0
    return m.case([0, 0, 0], context, future)


@_case
def long_horizon_paths(m: _Maker) -> Case:
    """What unrolling a long horizon sends: each row nine times, ids interleaved so that paths stay apart."""
    base = np.repeat(np.array([0, 0, 1]), 9) * 9 + np.tile(np.arange(9), 3)
    context = np.repeat(m.series(3, 5 * m.patch), 9, axis=0)
    context[:, -m.patch :] += np.tile(np.linspace(-1, 1, 9), 3)[:, None].astype(np.float32)
    return m.case(base, context)


@_case
def past_the_batch_size(m: _Maker) -> Case:
    """Upstream closes a batch after the group that passes its size: 107 rows for a batch of 100."""
    sizes = [5] * 19 + [12]
    return m.case(np.repeat(np.arange(20), sizes), m.series(107, 2 * m.patch + 1), m.unknown(107, m.patch))


@_case
def neighbouring_ids(m: _Maker) -> Case:
    """Ids that float64 cannot tell apart."""
    big = 2**63 - 1
    return m.case([big, big - 1, -(2**63), 1 - 2**63, big - 1, big, 2**53, 2**53 + 1])


@_case
def unsorted_covariates(m: _Maker) -> Case:
    """Covariates of interleaved groups: they must be sorted with their rows."""
    future = m.unknown(6, 2 * m.patch)
    future[[0, 3, 4]] = m.series(3, 2 * m.patch)
    return m.case([2, 1, 1, 2, 0, 1], future=future)


@_case
def far_covariate(m: _Maker) -> Case:
    """Constant in the context, 1e8 ahead: normalized to 1e13, whose square is near the end of float32."""
    context = m.series(3, 5 * m.patch)
    context[1] = 0.0
    future = m.unknown(3, m.patch)
    future[1] = 1e8
    return m.case([0, 0, 0], context, future)


@_case
def ragged_groups_of_three(m: _Maker) -> Case:
    """Groups of one size, whose rows begin at different steps."""
    context = m.series(6, 6 * m.patch)
    for row, missing in enumerate([0, 2 * m.patch + 1, 4 * m.patch, 3 * m.patch, 0, 5 * m.patch]):
        context[row, :missing] = np.nan
    return m.case([1, 0, 1, 0, 0, 1], context)


@_case
def overflowing_sums(m: _Maker) -> Case:
    """Two NoData among many values, or among three, and a huge spread: upstream clamps the statistics."""
    context = m.series(5, 6 * m.patch)
    context[1:3, -2:] = np.finfo(np.float32).min  # NoData
    context[2, :-3] = np.nan
    context[3] *= np.float32(1e25)
    return m.case([0, 0, 0, 0, 1], context)
