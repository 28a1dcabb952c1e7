"""Quantiles in numpy: those of upstream's functions in PyTorch, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline
from chronos.utils import interpolate_quantiles, weighted_quantile
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_export.errors import UsageError
from chronos_export.forecaster.quantiles import BLOCK, _total, interpolate, masses, weighted
from tests.helpers.checkpoints import THIRTEEN, TWENTY_ONE
from tests.helpers.upstream import sort_is_stable

NINE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
levels = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=1, max_size=30, unique=True)
seeds = st.integers(0, 2**32 - 1)


def values(seed: int, *shape: int) -> np.ndarray:
    """Numbers of all sizes, many of them equal, some not finite."""
    random = np.random.default_rng(seed)
    found = random.standard_normal(shape) * 10.0 ** random.integers(-3, 4, shape)
    found = np.where(random.random(shape) < 0.3, np.round(found), found)
    odd = random.choice([np.inf, -np.inf, np.nan], shape)
    return np.where(random.random(shape) < 0.02, odd, found).astype(np.float32)


@settings(max_examples=300, deadline=None)
@given(queries=levels, original=levels, seed=seeds)
def test_interpolation_is_upstreams(queries: list[float], original: list[float], seed: int) -> None:
    given_values = values(seed, 3, 4, len(original))
    theirs = interpolate_quantiles(queries, original, torch.from_numpy(given_values))
    assert np.array_equal(interpolate(queries, original, given_values), theirs.numpy(), equal_nan=True)


@settings(max_examples=100, deadline=None)
@given(
    model=st.sampled_from([TWENTY_ONE, THIRTEEN]),
    unrolled=st.sampled_from([NINE, [0.5], [0.1, 0.9], [0.01, 0.5, 0.99]]),
    rows=st.sampled_from([1, 7, 300]),
    seed=seeds,
)
def test_quantiles_of_weighted_samples_are_upstreams(
    model: list[float], unrolled: list[float], rows: int, seed: int
) -> None:
    theirs = [Chronos2Pipeline._get_prob_mass_per_quantile_level(torch.tensor(q)) for q in (unrolled, model)]
    mine = [masses(listed) for listed in (unrolled, model)]
    for found, wanted in zip(mine, theirs, strict=True):
        assert np.array_equal(found, wanted.numpy())
    samples = values(seed, rows, len(unrolled) * len(model))
    with sort_is_stable():
        answer = weighted_quantile(model, torch.outer(*theirs).flatten(), torch.from_numpy(samples))
    found = weighted(model, np.outer(*mine).ravel(), samples)
    assert np.array_equal(found, answer.numpy(), equal_nan=True)


def test_more_rows_than_are_sorted_at_a_time() -> None:
    samples, weights = values(0, 2 * BLOCK + 5, 9), masses(NINE)
    alone = np.concatenate([weighted([0.5], weights, samples[i : i + 1]) for i in range(0, len(samples), 97)])
    assert np.array_equal(weighted([0.5], weights, samples)[::97], alone, equal_nan=True)


@pytest.mark.parametrize("count", range(1, 300))
def test_weights_are_added_as_pytorch_adds_them(count: int) -> None:
    weights = np.random.default_rng(count).random(count, dtype=np.float32)
    assert _total(weights) == torch.from_numpy(weights).sum(dim=-1).item()


@pytest.mark.parametrize("level", [-0.1, 1.1])
def test_levels_that_are_no_shares_of_a_probability(level: float) -> None:
    with pytest.raises(UsageError, match="`query_quantile_levels` must be between 0 and 1"):
        interpolate([level], NINE, values(0, 9))
