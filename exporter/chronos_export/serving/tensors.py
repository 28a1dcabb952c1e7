"""Tensors of the Open Inference Protocol: the graph's own inputs and output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError
from chronos_export.forecaster.model import Model
from chronos_export.runtime.session import Floats
from chronos_export.serving.limits import ServingLimits
from chronos_export.serving.values import finite, whole

CONTEXT, IDS, FUTURE = "context", "group_ids", "future_covariates"
INPUTS = {CONTEXT: ("FP32", [-1, -1]), IDS: ("INT64", [-1]), FUTURE: ("FP32", [-1, -1])}
OUTPUT = "quantile_preds"
DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype(np.float32), "INT64": np.dtype(np.int64)}


def forecast_tensors(
    model: Model, limits: ServingLimits, tensors: Mapping[str, NDArray[Any]], prediction_length: Any = None
) -> Floats:
    """Forecast rows.

    Args:
        model: Answers them.
        limits: What one request may ask.
        tensors: `context`, float32 [rows, history], NaN = missing; perhaps `group_ids`, int64 [rows]: every
            row is a group of its own without them; perhaps `future_covariates`, float32 [rows, at most
            prediction_length], NaN = unknown.
        prediction_length: Steps ahead; as many as there are of future covariates if None.

    Returns:
        float32 [rows, quantiles, prediction_length].

    Raises:
        UsageError: They do not fit together; a `TooLargeError` if they are too many.
    """
    _check_types(tensors)
    context, ids, future = (tensors.get(name) for name in INPUTS)
    if context is None or context.ndim != 2 or 0 in context.shape:
        given = "missing" if context is None else f"of shape {list(context.shape)}"
        raise UsageError(f"{CONTEXT} is {given}", allowed="[rows, history], at least 1 of each")
    rows, length = context.shape
    if ids is not None and ids.shape != (rows,):
        raise UsageError(f"{IDS} has shape {list(ids.shape)}", allowed=f"[{rows}], one for each row")
    if future is not None and (future.ndim != 2 or len(future) != rows):
        raise UsageError(f"{FUTURE} has shape {list(future.shape)}", allowed=f"[{rows}, steps ahead]")
    if prediction_length is None and future is None:
        raise UsageError(
            "nothing says how far to forecast", allowed=f"the parameter prediction_length, or {FUTURE}"
        )
    asked = future.shape[1] if prediction_length is None and future is not None else prediction_length
    horizon = whole(asked, "prediction_length", 1, model.prediction_length)
    limits.check(rows, rows * (length + horizon))
    if future is not None and future.shape[1] > horizon:
        raise UsageError(f"{FUTURE} has {future.shape[1]} steps", allowed=f"at most {horizon}")
    known = None if future is None else finite(future, FUTURE)
    patches = -(-horizon // model.patch)
    return model.rows.forecast(finite(context, CONTEXT), ids, patches, known)[:, :, :horizon]


def _check_types(tensors: Mapping[str, NDArray[Any]]) -> None:
    if unknown := sorted(set(tensors) - set(INPUTS)):
        raise UsageError(f"there is no input {', '.join(unknown)[:200]}", allowed=", ".join(INPUTS))
    for name, tensor in tensors.items():
        kind = INPUTS[name][0]
        if tensor.dtype != DTYPES[kind]:
            raise UsageError(f"{name} is of type {tensor.dtype}", allowed=kind)
