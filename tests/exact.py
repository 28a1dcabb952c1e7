"""Upstream in float64, and what its own float32 is therefore allowed: the measure of comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from torch import Tensor

from chronos_export.exact import in_float64
from chronos_export.validate import NOISE_FACTOR


@dataclass(frozen=True)
class _Forecast:
    quantile_preds: Tensor


class _Exact:
    """What upstream's pipeline needs of a model, answered in float64."""

    def __init__(self, model: Chronos2Model) -> None:
        self.model, self.chronos_config, self.device = in_float64(model), model.chronos_config, model.device

    def __call__(self, context: Tensor, future_covariates: Tensor | None = None, **rest: Any) -> _Forecast:
        future = None if future_covariates is None else future_covariates.double()
        out = self.model(context=context.double(), future_covariates=future, **rest)
        return _Forecast(out.quantile_preds)


def exact_pipeline(upstream: Chronos2Pipeline) -> Chronos2Pipeline:
    """Upstream's pipeline over its own model in float64; unrolling carries float64 along."""
    return Chronos2Pipeline(model=_Exact(upstream.model))


def assert_as_upstream(found: list[Any], upstream: list[Any], exact: list[Any]) -> float:
    """Each series within 10 times upstream's own float32 error on it.

    Args:
        found: Forecasts to judge, one array a series.
        upstream: Upstream's, in float32.
        exact: Upstream's, in float64.

    Returns:
        The largest error in units of what its series is allowed.
    """
    assert len(found) == len(upstream) == len(exact) > 0
    worst = 0.0
    for mine, theirs, truth in zip(found, upstream, exact, strict=True):
        mine, theirs, truth = (np.asarray(values, dtype=np.float64) for values in (mine, theirs, truth))
        assert mine.shape == theirs.shape
        assert np.isfinite(mine).all()
        noise = max(np.abs(theirs - truth).max(), np.finfo(np.float32).eps * np.abs(truth).max())
        worst = max(worst, float(np.abs(mine - theirs).max() / (NOISE_FACTOR * noise)))
    assert worst <= 1
    return worst
