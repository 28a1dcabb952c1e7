"""KServe's `/v1/timeseries/forecast`: series one by one, no covariates."""

from __future__ import annotations

from datetime import datetime
from time import time
from typing import Any
from uuid import uuid4

import numpy as np
from kserve.protocol.rest.timeseries.types import (
    FREQUENCY_MAP,
    ForecastOutput,
    ForecastRequest,
    ForecastResponse,
    Status,
    TimeSeriesForecast,
    TimeSeriesInput,
    TimeSeriesType,
)

from chronos_export.errors import UsageError
from chronos_export.forecaster.model import Model
from chronos_export.forecaster.prediction import predict_quantiles
from chronos_export.runtime.session import Floats
from chronos_export.serving.invocations import LEVELS, levels_of
from chronos_export.serving.limits import ServingLimits
from chronos_export.serving.values import numbers, whole


def answer_forecast(model: Model, limits: ServingLimits, request: ForecastRequest) -> ForecastResponse:
    """Forecast the series of a request.

    Args:
        model: Answers them.
        limits: What one request may ask.
        request: A multivariate series is [variates, steps], and forecast together.

    Raises:
        UsageError: It cannot be used; a `TooLargeError` if it asks too much.
    """
    horizon = whole(request.options.horizon, "horizon", 1, model.prediction_length)
    levels = levels_of(LEVELS if request.options.quantiles is None else request.options.quantiles)
    if not request.inputs:
        raise UsageError("inputs is empty", allowed="at least one series")
    series = [_series(given) for given in request.inputs]
    rows = [np.atleast_2d(values).shape for values in series]
    limits.check(sum(count for count, _ in rows), sum(count * (length + horizon) for count, length in rows))
    quantiles, medians = predict_quantiles(model, series, horizon, levels)
    outputs = [
        ForecastOutput(
            type="time_series_forecast",
            id=str(uuid4()),
            status=Status.COMPLETED,
            content=[
                TimeSeriesForecast(
                    type=given.type,
                    name=given.name,
                    mean_forecast=_as_given(given, median),
                    frequency=given.frequency,
                    start_timestamp=_start(given, np.atleast_2d(values).shape[1]),
                    quantiles={
                        str(level): _as_given(given, found[..., place]) for place, level in enumerate(levels)
                    },
                )
            ],
        )
        for given, values, found, median in zip(request.inputs, series, quantiles, medians, strict=True)
    ]
    return ForecastResponse(
        id=str(uuid4()),
        created_at=int(time()),
        status=Status.COMPLETED,
        model=request.model,
        outputs=outputs,
    )


def _series(given: TimeSeriesInput) -> Floats:
    values = numbers(given.series, "a series")
    wanted = 1 if given.type == TimeSeriesType.UNIVARIATE else 2
    if values.ndim != wanted or 0 in values.shape:
        raise UsageError(
            f"a series of type {given.type.value} has {values.ndim} dimensions or no step",
            allowed="[steps] if univariate, [variates, steps] if multivariate",
        )
    return values


def _start(given: TimeSeriesInput, steps: int) -> str:
    """The time stamp of the first step ahead; empty if the series has none."""
    if given.start_timestamp is None:
        return ""
    try:
        begin = datetime.fromisoformat(given.start_timestamp)
        ahead = begin + FREQUENCY_MAP[given.frequency.value](steps)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            "start_timestamp cannot be used", allowed="ISO 8601: 2024-01-01T00:00:00Z"
        ) from error
    return str(ahead.isoformat()).replace("+00:00", "Z")


def _as_given(given: TimeSeriesInput, forecast: Floats) -> Any:
    """Lists of [variates, steps], without the first axis for a univariate series."""
    return (forecast[0] if given.type == TimeSeriesType.UNIVARIATE else forecast).tolist()
