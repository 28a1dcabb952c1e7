"""Score forecasts of held-out windows of real series, and of two naive forecasts of the same windows."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from chronos import Chronos2Pipeline
from numpy.typing import NDArray

from chronos_export.validation import real_series as demo_data
from chronos_export.validation.quantile_loss import LEVELS, WINDOWS, weighted_quantile_loss

Array = NDArray[np.float64]
Forecaster = Callable[[Array, int], Array]
Table = dict[str, dict[str, dict[str, float]]]


def of_pipeline(pipeline: Chronos2Pipeline) -> Forecaster:
    """The model's forecast of all targets together: history [targets, time] to [targets, horizon, levels]."""

    def forecast(history: Array, horizon: int) -> Array:
        quantiles, _ = pipeline.predict_quantiles(
            [{"target": history}], prediction_length=horizon, quantile_levels=list(LEVELS)
        )
        return np.asarray(quantiles[0], dtype=np.float64)

    return forecast


def seasonal_naive(period: int) -> Forecaster:
    """The last season again, with normal intervals as wide as its errors on the history."""

    def forecast(history: Array, horizon: int) -> Array:
        known = np.stack([filled(row) for row in history])
        point = known[:, -period + np.arange(horizon) % period]
        seasons = 1 + np.arange(horizon) // period
        spread = np.std(known[:, period:] - known[:, :-period], axis=1)[:, None] * np.sqrt(seasons)
        normal = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
        return point[..., None] + spread[..., None] * normal

    return forecast


def filled(row: Array) -> Array:
    """The row with missing values interpolated."""
    seen = ~np.isnan(row)
    return np.interp(np.arange(row.size), np.flatnonzero(seen), row[seen])


def scores(quantiles: Array, actual: Array, history: Array, period: int) -> tuple[float, float]:
    """MASE and WQL, each a mean over the targets.

    MASE: the median's mean absolute error over the seasonal naive's on the history.
    WQL: the mean quantile loss over the levels, twice, over the mean absolute actual value.
    """
    error = np.nanmean(np.abs(actual - quantiles[..., LEVELS.index(0.5)]), axis=1)
    known = np.stack([filled(row) for row in history])
    unit = np.mean(np.abs(known[:, period:] - known[:, :-period]), axis=1)
    return float(np.mean(error / unit)), weighted_quantile_loss(quantiles, actual)


def score_data(data: demo_data.RealData, forecaster: Forecaster) -> tuple[float, float]:
    """MASE and WQL of a forecaster, the mean over the last `WINDOWS` windows of the data."""
    results = []
    for window in range(1, WINDOWS + 1):
        past, future = data.hold_out(window)
        history, actual = (part[list(data.targets)].to_numpy().T for part in (past, future))
        results.append(scores(forecaster(history, data.horizon), actual, history, data.period))
    mase, wql = np.mean(results, axis=0)
    return float(mase), float(wql)


def score_all(pipeline: Chronos2Pipeline) -> Table:
    """data set -> forecaster -> {"mase", "wql"}."""
    table = {}
    for name in demo_data.NAMES:
        data = demo_data.load(name)
        forecasters = {
            "demo": of_pipeline(pipeline),
            "seasonal naive": seasonal_naive(data.period),
            "last value": seasonal_naive(1),
        }
        table[name] = {
            label: dict(zip(("mase", "wql"), score_data(data, forecaster), strict=True))
            for label, forecaster in forecasters.items()
        }
    return table


def as_markdown(table: Table) -> str:
    """The table as it stands in the model card."""
    labels = list(next(iter(table.values())))
    columns = [(metric, label) for metric in ("mase", "wql") for label in labels]
    lines = [
        ["data", *(f"{metric.upper()} {label}" for metric, label in columns)],
        ["---", *("---:" for _ in columns)],
        *([name, *(f"{row[label][metric]:.4f}" for metric, label in columns)] for name, row in table.items()),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
