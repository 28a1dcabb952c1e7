"""Whatever upstream's `predict` takes, as tasks.

Derived from `Chronos2Dataset` and `chronos2/preprocess.py` of chronos-forecasting 2.3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError
from chronos_export.forecaster.dictionaries import of_dictionaries
from chronos_export.forecaster.task import InputTypeError, Task, as_array, as_floats, without_covariates

PREPARED = ("context", "future_covariates", "n_targets")


def as_tasks(inputs: Any, prediction_length: int) -> list[Task]:
    """Return the tasks of some inputs.

    Args:
        inputs: An array [tasks, targets, history]; or a sequence of arrays [history] or
            [targets, history], of dictionaries as `of_dictionaries` takes them or as upstream's
            `preprocess` gives them, or of tasks.
        prediction_length: Steps ahead.

    Raises:
        UsageError: They are none of these, or they do not fit together.
    """
    if len(inputs) == 0:
        raise UsageError("`inputs` is empty. Please provide at least one time series.")
    if _is_array(inputs):
        return _of_array(as_array(inputs), prediction_length)
    first = inputs[0]
    if isinstance(first, Task):
        return list(inputs)
    if _is_array(first):
        return [_of_series(index, item, prediction_length) for index, item in enumerate(inputs)]
    if not isinstance(first, Mapping):
        raise InputTypeError(
            f"inputs[0] is a {type(first).__name__}, which holds no series",
            allowed="an array of 3 dimensions, or a sequence of arrays or of dictionaries",
        )
    if "context" in first:
        return [_of_prepared(item) for item in inputs]
    return of_dictionaries(inputs, prediction_length)


def _is_array(values: Any) -> bool:
    return hasattr(values, "ndim") and hasattr(values, "dtype")


def _of_array(values: NDArray[Any], prediction_length: int) -> list[Task]:
    if values.ndim != 3:
        raise UsageError(
            "Expected 3-d tensor with shape (n_series, n_variates, history_length), got shape"
            f" {values.shape}.",
            fix="give a list of series, each of a length of its own; data frames go to predict_df",
        )
    return [without_covariates(item, prediction_length) for item in as_floats(values)]


def _of_series(index: int, item: Any, prediction_length: int) -> Task:
    values = as_array(item)
    if values.ndim not in (1, 2) or 0 in values.shape:
        raise UsageError(
            "Each element should be 1-d or 2-d, with shape (history_length,) or (n_variates, history_length)"
            f" and at least one step. Found element at index {index} with shape {values.shape}."
        )
    return without_covariates(np.atleast_2d(values), prediction_length)


def _of_prepared(item: Mapping[str, Any]) -> Task:
    if missing := [key for key in PREPARED if key not in item]:
        raise InputTypeError(f"Input is missing required keys: {missing}.")
    context, future = (as_array(item[key]) for key in PREPARED[:2])
    if context.ndim != 2 or future.ndim != 2:
        raise InputTypeError(
            f"Expected 'context' and 'future_covariates' to be 2-d, got {context.shape} and {future.shape}."
        )
    if len(context) != len(future):
        raise UsageError(
            "Expected 'context' and 'future_covariates' to have the same first dimension, got"
            f" {len(context)} and {len(future)}."
        )
    return Task(as_floats(context), as_floats(future), int(item["n_targets"]))
