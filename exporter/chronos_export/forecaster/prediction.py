"""`predict` and `predict_quantiles` on numpy arrays.

Derived from `Chronos2Pipeline` of chronos-forecasting 2.3.2: its words, defaults, warnings and errors.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chronos_export.errors import UsageError
from chronos_export.forecaster.batches import batches
from chronos_export.forecaster.inputs import as_tasks
from chronos_export.forecaster.model import Model
from chronos_export.forecaster.quantiles import interpolate
from chronos_export.forecaster.unrolling import forecast
from chronos_export.runtime.session import Floats

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
BATCH_SIZE = 256
LOG = logging.getLogger(__name__)


def predict(
    model: Model,
    inputs: Any,
    prediction_length: int | None = None,
    batch_size: int = BATCH_SIZE,
    context_length: int | None = None,
    cross_learning: bool = False,
    limit_prediction_length: bool = False,
    *,
    max_output_patches: int | None = None,
    unrolled_quantiles: Sequence[float] = LEVELS,
    after_batch: Callable[[], object] = lambda: None,
    predict_batches_jointly: bool | None = None,
) -> list[Floats]:
    """Forecast; arguments, answer and errors are those of `Forecaster.predict`."""
    if predict_batches_jointly is not None:
        renamed = "`predict_batches_jointly` is deprecated; it is called `cross_learning`"
        warnings.warn(renamed, FutureWarning, stacklevel=2)
        cross_learning = predict_batches_jointly
    if not set(unrolled_quantiles) <= set(model.quantiles):
        raise UsageError(
            f"Unrolled quantiles must be a subset of the model's quantiles, not {list(unrolled_quantiles)}",
            allowed=", ".join(map(str, model.quantiles)),
        )
    horizon = _horizon(model, prediction_length, limit_prediction_length)
    context = used_context(model, context_length)
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}", allowed="1 row or more")
    patches = model.max_output_patches if max_output_patches is None else max_output_patches
    if patches < 1:
        raise UsageError(f"max_output_patches is {patches}", allowed="1 or more")
    forecasts: list[Floats] = []
    for batch in batches(as_tasks(inputs, horizon), batch_size, context, cross_learning):
        rows = forecast(model, batch, horizon, patches, unrolled_quantiles)
        forecasts.extend(rows[targets] for targets in batch.targets)
        after_batch()
    return forecasts


def predict_quantiles(
    model: Model,
    inputs: Any,
    prediction_length: int | None = None,
    quantile_levels: Sequence[float] = LEVELS,
    **options: Any,
) -> tuple[list[Floats], list[Floats]]:
    """Forecast; arguments, answer and errors are those of `Forecaster.predict_quantiles`."""
    given = model.quantiles
    by_step = [np.swapaxes(rows, 1, 2) for rows in predict(model, inputs, prediction_length, **options)]
    median = given.index(0.5)
    if set(quantile_levels) <= set(given):
        chosen = [given.index(level) for level in quantile_levels]
        quantiles = [rows[..., chosen] for rows in by_step]
    else:
        if min(quantile_levels) < min(given) or max(quantile_levels) > max(given):
            LOG.warning(
                "Of the quantiles %s, those outside of %g to %g are the outermost that the model forecasts",
                list(quantile_levels),
                min(given),
                max(given),
            )
        quantiles = [interpolate(quantile_levels, given, rows) for rows in by_step]
    return quantiles, [rows[..., median] for rows in by_step]


def steps_ahead(model: Model, prediction_length: int | None) -> int:
    """Return how many steps are asked for; None asks for the model's longest horizon."""
    steps = model.prediction_length if prediction_length is None else prediction_length
    if steps < 1:
        raise UsageError(f"prediction_length is {steps}", allowed="1 step or more")
    return steps


def _horizon(model: Model, asked: int | None, limited: bool) -> int:
    longest, horizon = model.prediction_length, steps_ahead(model, asked)
    if horizon > longest:
        advice = f"We recommend keeping prediction length <= {longest}. The model was not trained for more."
        if limited:
            raise UsageError(advice, fix="limit_prediction_length=False")
        warnings.warn(advice, stacklevel=2)
    return horizon


def used_context(model: Model, asked: int | None) -> int:
    """Return how many steps of a series are used at most; None asks for all that the model can see."""
    longest = model.context_length
    if asked is None:
        return longest
    if asked < 1:
        raise UsageError(f"context_length is {asked}", allowed=f"1 to {longest} steps")
    if asked > longest:
        warnings.warn(
            f"The specified context_length {asked} is greater than the model's default context length"
            f" {longest}. Resetting context_length to {longest}.",
            stacklevel=2,
        )
    return min(asked, longest)
