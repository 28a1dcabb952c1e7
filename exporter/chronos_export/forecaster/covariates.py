"""Covariates of all tasks, as the rows of each.

Derived from `_build_prepared_inputs` and `_target_encode` in `chronos2/preprocess.py` of chronos-forecasting
2.3.2: the same float64 operations in the same order, rounded to float32 once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chronos_export.forecaster.categories import MISSING, UNSEEN, Categories
from chronos_export.forecaster.task import Task
from chronos_export.runtime.session import Floats, Ints


@dataclass(frozen=True)
class Covariate:
    """One covariate; the values of all tasks stand one after the other.

    Attributes:
        past: float32 [steps of all tasks], or as many categories.
        future: float32 [tasks * prediction_length], or as many values of the categories; None if not known.
    """

    past: Floats | Categories
    future: Floats | list[Any] | None


def tasks_of(
    targets: Floats, covariates: Sequence[Covariate], lengths: Sequence[int], prediction_length: int
) -> list[Task]:
    """Return tasks with their covariates.

    A category becomes a number: for one target, the mean of the target where the task has the category; for
    several, its place among the categories.

    Args:
        targets: float32 [targets, steps of all tasks].
        covariates: In the order of their rows, those known ahead last.
        lengths: Steps of each task.
        prediction_length: Steps ahead.
    """
    future = np.full((len(targets) + len(covariates), len(lengths) * prediction_length), np.nan, np.float32)
    past = np.empty((len(future), targets.shape[1]), np.float32)
    past[: len(targets)] = targets
    for row, covariate in enumerate(covariates, start=len(targets)):
        past[row], known = _numbers(covariate, targets, lengths, prediction_length)
        if known is not None:
            future[row] = known
    contexts = np.split(past, np.cumsum(lengths)[:-1], axis=1)
    ahead = np.split(future, len(lengths), axis=1)
    return [Task(context, known, len(targets)) for context, known in zip(contexts, ahead, strict=True)]


def _numbers(
    covariate: Covariate, targets: Floats, lengths: Sequence[int], prediction_length: int
) -> tuple[Floats, Floats | None]:
    """A covariate's past and future."""
    past, future = covariate.past, covariate.future
    if not isinstance(past, Categories):
        return past, None if future is None else np.asarray(future)
    codes = past.codes_of([] if future is None else list(future))
    if len(targets) == 1:
        tasks = np.arange(len(lengths))
        owners = np.repeat(tasks, lengths), np.repeat(tasks, prediction_length if len(codes) else 0)
        encoded = _target_means(targets[0], owners, (past.codes, codes))
    else:
        encoded = _places(past.codes, len(past.values)), _places(codes, len(past.values))
    return encoded[0], None if future is None else encoded[1]


def _places(codes: Ints, categories: int) -> Floats:
    """Categories as their places; a missing one comes last, and an unseen one is missing."""
    places = np.where(codes == MISSING, categories, codes).astype(np.float32)
    return np.where(codes == UNSEEN, np.float32(np.nan), places)


def _target_means(
    target: Floats, owners: tuple[Ints, Ints], codes: tuple[Ints, Ints]
) -> tuple[Floats, Floats]:
    """Categories as means of the target where the task has them, with one more value: the mean of the task.

    Args:
        target: float32 [steps of all tasks]; what is not finite does not count.
        owners: Task of each step, past and future.
        codes: Category of each step, past and future.

    Returns:
        float32 [steps], past and future. A category that its task has not seen is the mean of the task.
    """
    seen = np.isfinite(target)
    values, ones = np.where(seen, target, 0), seen.astype(np.float64)
    tasks = 1 + max(part.max(initial=-1) for part in owners)
    totals = np.bincount(owners[0], values, tasks)
    counts = np.bincount(owners[0], ones, tasks)
    means = np.divide(totals, counts, out=np.zeros(tasks), where=counts > 0)

    slots = max(part.max(initial=0) for part in codes) - UNSEEN + 1
    past, ahead = (owner * slots + code - UNSEEN for owner, code in zip(owners, codes, strict=True))
    pairs, at = np.unique(past, return_inverse=True)
    drawn = means[pairs // slots] + np.bincount(at, values)
    encoded = drawn / (1 + np.bincount(at, ones))
    place = np.searchsorted(pairs, ahead).clip(max=len(pairs) - 1)
    future = np.where(pairs[place] == ahead, encoded[place], means[owners[1]])
    return encoded[at].astype(np.float32), future.astype(np.float32)
