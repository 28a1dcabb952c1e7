"""Tasks to batches of rows: padded on the left to one length, each task a group.

Derived from `Chronos2Dataset` of chronos-forecasting 2.3.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from chronos_export.forecaster.task import Task
from chronos_export.runtime.session import Floats, Ints


@dataclass(frozen=True)
class Batch:
    """Rows that one forward pass of upstream's pipeline would answer.

    Attributes:
        context: float32 [rows, context_length], NaN = missing.
        future: float32 [rows, prediction_length], NaN = unknown.
        group_ids: int64 [rows].
        targets: The rows of each task that are forecast.
    """

    context: Floats
    future: Floats
    group_ids: Ints
    targets: list[slice]


def batches(
    tasks: Sequence[Task], batch_size: int, context_length: int, cross_learning: bool
) -> Iterator[Batch]:
    """Yield the batches of some tasks, in order.

    Args:
        tasks: At least one.
        batch_size: Rows of a batch; the task that reaches it is its last, so there may be more.
        context_length: How many steps of a longer context are used, counted from its end.
        cross_learning: Whether all tasks of a batch are one group.
    """
    members: list[Task] = []
    rows = 0
    for task in tasks:
        members.append(task)
        rows += len(task.context)
        if rows >= batch_size:
            yield _batch(members, context_length, cross_learning)
            members, rows = [], 0
    if members:
        yield _batch(members, context_length, cross_learning)


def _batch(tasks: Sequence[Task], context_length: int, cross_learning: bool) -> Batch:
    sizes = np.array([len(task.context) for task in tasks])
    ends = np.cumsum(sizes)
    longest = min(context_length, max(task.context.shape[1] for task in tasks))
    context = np.full((ends[-1], longest), np.nan, dtype=np.float32)
    for task, end in zip(tasks, ends, strict=True):
        recent = task.context[:, -longest:]
        context[end - len(recent) : end, longest - recent.shape[1] :] = recent
    begins = (ends - sizes).tolist()
    return Batch(
        context,
        np.concatenate([task.future for task in tasks]),
        np.repeat(np.zeros_like(sizes) if cross_learning else np.arange(len(tasks)), sizes),
        [slice(begin, begin + task.targets) for begin, task in zip(begins, tasks, strict=True)],
    )
