"""SageMaker's `/invocations` with the payload of upstream's endpoint: series, covariates, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from chronos_export.errors import UsageError
from chronos_export.forecaster.frequency import Frequency, parse
from chronos_export.forecaster.inputs import as_tasks
from chronos_export.forecaster.model import Model
from chronos_export.forecaster.prediction import BATCH_SIZE, predict_quantiles
from chronos_export.runtime.session import Floats
from chronos_export.serving.limits import ServingLimits
from chronos_export.serving.values import numbers, whole

Json = dict[str, Any]
ITEM = ("target", "item_id", "start", "past_covariates", "future_covariates")
COVARIATES = ITEM[3:]
PARAMETERS = ("prediction_length", "quantile_levels", "freq", "batch_size", "cross_learning")
LEVELS = (0.1, 0.5, 0.9)
MOST_LEVELS = 100


def invoke(model: Model, limits: ServingLimits, payload: Any) -> Json:
    """Forecast the series of a payload.

    Args:
        model: Answers them.
        limits: What one request may ask.
        payload: `inputs`, a list of objects with `target` and perhaps the other keys of `ITEM`; perhaps
            `parameters`, an object with some of `PARAMETERS`. What each means stands in upstream's notebook
            on SageMaker, "Endpoint API Reference".

    Returns:
        `predictions`: for each input `mean` (the median) and a list for each level, and its `item_id` and the
        `start` of the forecast if those were given.

    Raises:
        UsageError: The payload cannot be used; a `TooLargeError` if it asks too much.
    """
    _check_keys(payload, "the payload", ("inputs", "parameters"))
    parameters = payload.get("parameters") or {}
    _check_keys(parameters, "parameters", PARAMETERS)
    inputs = payload.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise UsageError("inputs is no list of series", allowed="at least one")
    for item in inputs:
        _check_keys(item, "an element of inputs", ITEM)
    horizon = whole(parameters.get("prediction_length", 1), "prediction_length", 1, model.prediction_length)
    levels = levels_of(parameters.get("quantile_levels", LEVELS))
    series = [_series(item) for item in inputs]
    rows, steps = _size(series, horizon)
    limits.check(rows, steps)
    starts = _starts(inputs, series, parameters.get("freq"))
    quantiles, medians = predict_quantiles(
        model,
        as_tasks(series, horizon),
        horizon,
        levels,
        batch_size=whole(parameters.get("batch_size", BATCH_SIZE), "batch_size", 1, 2**31),
        cross_learning=_flag(parameters.get("cross_learning", False)),
    )
    predictions = []
    for number, item in enumerate(inputs):
        flat = series[number]["target"].ndim == 1
        found: Json = {"mean": _as_given(medians[number], flat)}
        for place, level in enumerate(levels):
            found[str(level)] = _as_given(quantiles[number][..., place], flat)
        if "item_id" in item:
            found["item_id"] = item["item_id"]
        if starts:
            found["start"] = starts[number]
        predictions.append(found)
    return {"predictions": predictions}


def _check_keys(found: Any, name: str, allowed: Sequence[str]) -> None:
    if not isinstance(found, Mapping):
        raise UsageError(f"{name} is no object", allowed=f"an object with {', '.join(allowed)}")
    if unknown := sorted(set(found) - set(allowed)):
        raise UsageError(f"{name} has {', '.join(unknown)[:200]}", allowed=", ".join(allowed))


def _series(item: Json) -> Json:
    """An input as `Forecaster.predict` takes it."""
    found: Json = {"target": numbers(item.get("target"), "target")}
    for kind in COVARIATES:
        if kind not in item:
            continue
        if not isinstance(item[kind], Mapping):
            raise UsageError(f"{kind} is no object", allowed="names to lists")
        found[kind] = {name: _covariate(values, kind) for name, values in item[kind].items()}
    return found


def _covariate(values: Any, kind: str) -> Any:
    """Numbers as an array, categories as they are."""
    if not isinstance(values, list):
        raise UsageError(f"a covariate of {kind} is no list", allowed="numbers, or strings")
    if all(value is None or isinstance(value, str | bool) for value in values):
        return np.asarray(values, dtype=object)
    return numbers(values, f"a covariate of {kind}")


def _size(series: Sequence[Json], horizon: int) -> tuple[int, int]:
    """Rows, and time steps with those ahead."""
    rows = steps = 0
    for item in series:
        shape = np.atleast_2d(item["target"]).shape
        count = shape[0] + len(item.get("past_covariates", ()))
        rows, steps = rows + count, steps + count * (shape[-1] + horizon)
    return rows, steps


def levels_of(given: Any) -> list[float]:
    """Return quantile levels, checked.

    Raises:
        UsageError: They are no numbers between 0 and 1, or too many.
    """
    found = numbers(given, "quantile_levels")
    if found.ndim != 1 or not 0 < len(found) <= MOST_LEVELS or not ((found > 0) & (found < 1)).all():
        raise UsageError("quantile_levels cannot be used", allowed=f"1 to {MOST_LEVELS} numbers in (0, 1)")
    return [float(level) for level in given]


def _flag(given: Any) -> bool:
    if not isinstance(given, bool):
        raise UsageError("cross_learning is no boolean", allowed="true, false")
    return given


def _starts(inputs: Sequence[Json], series: Sequence[Json], freq: Any) -> list[str]:
    """The first time stamp of each forecast; none if no series has one."""
    ids = [item["item_id"] for item in inputs if "item_id" in item]
    if not all(isinstance(found, str) for found in ids) or len(set(ids)) < len(ids):
        raise UsageError("item_id is not unique", allowed="a string for each series, no two alike")
    given = [item["start"] for item in inputs if "start" in item]
    if not given and freq is None:
        return []
    if freq is None or len(given) < len(inputs):
        raise UsageError("start and freq need each other", allowed="freq, and start in every series")
    if not isinstance(freq, str):
        raise UsageError("freq is no string", allowed="a frequency of pandas, like 1h")
    frequency = parse(freq)
    pairs = zip(given, series, strict=True)
    return [_first_ahead(start, item["target"].shape[-1], frequency) for start, item in pairs]


def _first_ahead(start: Any, steps: int, frequency: Frequency) -> str:
    try:
        stamp = np.array([start], dtype="M8[us]")
        if not isinstance(start, str) or np.isnat(stamp).any():
            raise ValueError
    except (ValueError, TypeError) as error:
        allowed = "YYYY-MM-DD or YYYY-MM-DDThh:mm:ss"
        raise UsageError(f"start is {str(start)[:40]!r}", allowed=allowed) from error
    try:
        ahead = frequency.after(stamp, max(steps, 1))[0, -1]
    except OverflowError as error:
        raise UsageError("freq is longer than time stamps can tell", allowed="a frequency like 1h") from error
    return str(ahead.astype("M8[us]").item().isoformat())


def _as_given(forecast: Floats, flat: bool) -> Floats:
    """[targets, prediction_length], without the first axis where the target had none."""
    return forecast[0] if flat else forecast
