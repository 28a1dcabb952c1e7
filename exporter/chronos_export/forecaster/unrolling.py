"""Horizons past the model's own: forecasts become context, on one path for each of some quantiles.

Derived from `Chronos2Pipeline._predict_batch` of chronos-forecasting 2.3.2. Going on from the median alone
would lose the uncertainty, so every row goes on as several, from its quantiles. Each path forecasts all
quantiles again; weighted by the probability they stand for, they are samples, and the forecast is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chronos_export.forecaster.batches import Batch
from chronos_export.forecaster.model import Model
from chronos_export.forecaster.quantiles import interpolate, masses, weighted
from chronos_export.runtime.session import Floats, Ints


def forecast(
    model: Model, batch: Batch, prediction_length: int, max_output_patches: int, unrolled: Sequence[float]
) -> Floats:
    """Forecast a batch as far as asked.

    Args:
        model: Answers the forward passes.
        batch: The rows.
        prediction_length: Steps ahead.
        max_output_patches: The most output tokens of one forward pass.
        unrolled: Levels from whose quantiles a horizon beyond that is forecast.

    Returns:
        float32 [rows, quantiles, prediction_length].
    """
    first, *others = _passes(-(-prediction_length // model.patch), max_output_patches)
    context, group_ids, future = batch.context, batch.group_ids, batch.future
    forecasts = [_ask(model, context, group_ids, future, first)]
    if others:
        paths = len(unrolled)
        context, future = np.repeat(context, paths, axis=0), np.repeat(future, paths, axis=0)
        group_ids = (group_ids[:, None] * paths + np.arange(paths)).ravel()  # paths never see each other
        weights = np.outer(masses(unrolled), masses(model.quantiles)).ravel()
    for patches in others:
        reached = interpolate(unrolled, model.quantiles, forecasts[-1].transpose(0, 2, 1))
        context, future = _advance(model, context, future, reached.transpose(0, 2, 1))
        answer = _ask(model, context, group_ids, future, patches)
        forecasts.append(_joined(answer.reshape(-1, paths, *answer.shape[1:]), weights, model.quantiles))
    return np.concatenate(forecasts, axis=2)[:, :, :prediction_length]


def _passes(patches: int, most: int) -> list[int]:
    """The output tokens of each forward pass."""
    return [min(most, patches - done) for done in range(0, patches, most)]


def _ask(model: Model, context: Floats, group_ids: Ints, future: Floats, patches: int) -> Floats:
    return model.rows.forecast(context, group_ids, patches, future[:, : patches * model.patch])


def _advance(model: Model, context: Floats, future: Floats, reached: Floats) -> tuple[Floats, Floats]:
    """Put what was reached, [rows, paths, steps], behind the context; or what is known, where it is."""
    steps = reached.shape[2]
    path, known = reached.reshape(-1, steps), future[:, :steps]
    path = np.where(np.isnan(known), path, known)
    return np.concatenate([context, path], axis=1)[:, -model.context_length :], future[:, steps:]


def _joined(answers: Floats, weights: Floats, quantiles: Sequence[float]) -> Floats:
    """What all paths together forecast: [rows, paths, quantiles, steps] to [rows, quantiles, steps]."""
    rows, paths, levels, steps = answers.shape
    samples = answers.transpose(0, 3, 1, 2).reshape(rows * steps, paths * levels)
    return weighted(quantiles, weights, samples).reshape(rows, steps, levels).transpose(0, 2, 1)
