"""Calls to cores: which are answered side by side, on one thread each, and which alone, by all threads.

Threads that share every product of a call wait for each other. A thread with a call of its own does not, and
it can take a smaller call, which is padded less; but large calls side by side compete for the cache. So small
calls go side by side where there are enough of them, large ones alone, and alone goes too what all the others
would wait for in the end.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chronos_export.runtime.batching import Call, Ints, Limits, plan

OVERHEAD = 16  # what a call costs besides its tokens, in tokens: weights to read, small operators
OVERHEAD_SHARED = 32  # the same for a call that all threads share
FEW = 8  # calls a worker; where there are more, it hardly matters how the last ones fall
FINER = (0.85, 0.7, 0.6, 0.5, 0.4, 0.3)  # of the size that suits the machine; tried where calls are few


@dataclass(frozen=True)
class Schedule:
    """The calls of a batch, the largest first.

    Attributes:
        beside: Side by side: whichever thread is free takes the next.
        alone: After those, one after the other, each by all threads.
        duration: Until the last is answered, in tokens of one thread.
    """

    beside: list[Call]
    alone: list[Call]
    duration: float


def schedule(
    group_ids: Ints, lengths: Ints, horizon: int, patch: int, limits: Limits, workers: int
) -> Schedule:
    """Cut a batch into calls that `workers` threads are done with soonest.

    A few calls of the size that suits the machine may leave a thread idle at the end, so smaller ones are
    tried too.

    Args:
        group_ids: int64 [rows].
        lengths: int64 [rows], see `plan.plan`.
        horizon: Steps ahead, the same for all rows.
        patch: Steps a token.
        limits: How large a call may be.
        workers: How many calls can be answered at a time.

    Raises:
        UsageError: See `plan.plan`.
    """
    calls = plan(group_ids, lengths, horizon, patch, limits)
    if workers == 1:
        return Schedule([], calls, sum(map(_cost, calls)))
    best = _assign(calls, workers, limits.shared)
    if len(calls) < FEW * workers:
        even = -(-sum(call.tokens for call in calls) // workers)
        largest = min(limits.tokens, max(call.tokens for call in calls))
        sizes = {even, *(int(limits.tokens * share) for share in FINER)}
        for size in sorted((size for size in sizes if size < largest), reverse=True):
            finer = plan(group_ids, lengths, horizon, patch, replace(limits, tokens=size))
            best = min(best, _assign(finer, workers, limits.shared), key=lambda option: option.duration)
    return best


def _assign(calls: Sequence[Call], workers: int, shared: float) -> Schedule:
    """The largest of the calls alone, the others side by side."""
    largest_first = sorted(calls, key=_cost, reverse=True)
    costs = [_cost(call) for call in largest_first]
    options = []
    for count in sorted({*range(min(workers, len(calls)) + 1), len(calls)}):
        alone = sum(call.tokens + OVERHEAD_SHARED for call in largest_first[:count]) / (workers * shared)
        duration = alone + _side_by_side(costs[count:], workers)
        options.append(Schedule(largest_first[count:], largest_first[:count], duration))
    return min(options, key=lambda option: option.duration)


def _cost(call: Call) -> int:
    return OVERHEAD + call.tokens


def _side_by_side(costs: Sequence[int], workers: int) -> int:
    busy = [0] * workers
    for cost in costs:
        heapq.heapreplace(busy, busy[0] + cost)
    return max(busy)
