"""Dictionaries of a target and its covariates, as tasks.

Derived from `from_list_of_dicts` in `chronos2/preprocess.py` of chronos-forecasting 2.3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError
from chronos_export.forecaster.categories import categorize
from chronos_export.forecaster.covariates import Covariate, tasks_of
from chronos_export.forecaster.task import Task, as_array, as_floats, parsed

Item = Mapping[str, Any]
KEYS = TARGET, PAST, FUTURE = "target", "past_covariates", "future_covariates"


def of_dictionaries(items: Sequence[Item], prediction_length: int) -> list[Task]:
    """Return the tasks of dictionaries with the same number of targets and the same covariates.

    Args:
        items: Each with `target`, [history] or [targets, history]; perhaps `past_covariates`, names to
            [history]; and perhaps `future_covariates`, some of those names to [prediction_length], or to None
            or nothing where a covariate will be known and is not yet. What is no number is a category.
        prediction_length: Steps ahead.

    Raises:
        UsageError: They do not fit together.
    """
    for index, item in enumerate(items):
        _check_shapes(index, item, prediction_length)
    _check_alike(items)
    targets = [np.atleast_2d(parsed(as_array(item[TARGET]))) for item in items]
    lengths = [values.shape[1] for values in targets]
    if not any(lengths):
        raise UsageError("no target has a time step", allowed="at least one with at least one step")
    known = items[0].get(FUTURE, {})
    names = sorted(items[0].get(PAST, {}), key=lambda name: (name in known, name))
    covariates = [_covariate(items, name, not _is_nothing(known.get(name))) for name in names]
    return tasks_of(np.concatenate(targets, axis=1), covariates, lengths, prediction_length)


def _covariate(items: Sequence[Item], name: str, has_future: bool) -> Covariate:
    past = _joined(items, PAST, name)
    future = _joined(items, FUTURE, name) if has_future else None
    if np.issubdtype(past.dtype, np.number):
        return Covariate(as_floats(past), None if future is None else parsed(future))
    return Covariate(categorize(past.tolist()), None if future is None else future.tolist())


def _joined(items: Sequence[Item], kind: str, name: str) -> NDArray[Any]:
    return np.concatenate([as_array(item[kind][name]) for item in items])


def _is_nothing(values: Any) -> bool:
    return values is None or (hasattr(values, "__len__") and len(values) == 0)


def _check_shapes(index: int, item: Item, prediction_length: int) -> None:
    if not set(item) <= set(KEYS):
        raise UsageError(
            f"Found invalid keys in element at index {index}: {sorted(set(item) - set(KEYS))}",
            allowed=", ".join(KEYS),
        )
    if TARGET not in item:
        raise UsageError(f"Element at index {index} does not contain the required key 'target'")
    target = as_array(item[TARGET])
    if target.ndim not in (1, 2):
        raise UsageError(
            f"Target must be 1-d or 2-d, (history_length,) or (n_variates, history_length), and has shape"
            f" {target.shape} in element at index {index}"
        )
    for kind, whose, length in (
        (PAST, "`target`", target.shape[-1]),
        (FUTURE, "the prediction_length", prediction_length),
    ):
        covariates = item.get(kind, {})
        if not isinstance(covariates, Mapping):
            raise UsageError(
                f"Found invalid type for `{kind}` in element at index {index}: {type(covariates).__name__}",
                allowed="a dictionary of names and arrays",
            )
        for name, values in covariates.items():
            if kind == FUTURE and _is_nothing(values):
                continue
            shape = as_array(values).shape
            if shape != (length,):
                raise UsageError(
                    f"Individual `{kind}` must be 1-d with length equal to that of {whose} (= {length}),"
                    f" found: {name} with shape {shape} in element at index {index}"
                )


def _check_alike(items: Sequence[Item]) -> None:
    first = _schema(items[0])
    if not set(items[0].get(FUTURE, {})) <= set(items[0].get(PAST, {})):
        raise UsageError(
            "Expected keys in `future_covariates` must be a subset of `past_covariates`"
            f" {first[f'{PAST} keys']}, but found {first[f'{FUTURE} keys']}"
        )
    for index, item in enumerate(items):
        for what, found in _schema(item).items():
            if found != first[what]:
                raise UsageError(
                    f"All dictionaries must have the same {what}. Expected {first[what]}, got {found} at"
                    f" index {index}",
                    fix="call once for each kind of dictionary",
                )


def _schema(item: Item) -> dict[str, Any]:
    """What all dictionaries of a call must have in common."""
    future = item.get(FUTURE, {})
    return {
        "n_targets": len(np.atleast_2d(as_array(item[TARGET]))),
        f"{PAST} keys": sorted(item.get(PAST, {})),
        f"{FUTURE} keys": sorted(future),
        f"{FUTURE} whose values are given": sorted(n for n, v in future.items() if not _is_nothing(v)),
    }
