"""Rows to calls: where to cut a batch so that no work is spent on padding.

Groups never see each other, so a batch may be cut anywhere between groups and each piece answered apart:

    rows -> groups of one | other groups -> sorted by length -> calls of similar length and bounded size

Every piece drops the leading steps that are missing in all of its rows, which is exact: positions are
relative and the time encoding counts from the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """How large a call may be. A group is never cut, so one group may exceed `tokens`, never `rows`.

    Attributes:
        tokens: The most rows x tokens of a call; what fills the machine.
        padding: Largest share of a call's tokens that may be padding.
        rows: The most rows of a call, or None where any number will do.
        profiles: Row counts that a call is padded to, () where it is not.
        shared: How fast a thread works on a call that all threads share, relative to a call of its own.
    """

    tokens: int = 800
    padding: float = 0.1
    rows: int | None = None
    profiles: tuple[int, ...] = ()
    shared: float = 1.0


@dataclass(frozen=True)
class Call:
    """One call of a session.

    Attributes:
        rows: int64, positions in the batch, whole groups.
        context_length: Steps to keep of the context, counted from its end.
        univariate: Whether every row is a group of its own.
        tokens: Rows x tokens, padding and horizon included.
    """

    rows: Ints
    context_length: int
    univariate: bool
    tokens: int


def observed_length(missing: NDArray[np.bool_]) -> Ints:
    """Steps from the first observed value of each row to the end, at least 1.

    Args:
        missing: bool [rows, context_length].
    """
    length = missing.shape[1]
    first = np.where(missing.all(axis=1), length - 1, (~missing).argmax(axis=1))
    steps: Ints = np.asarray(length - first, dtype=np.int64)
    return steps


def plan(group_ids: Ints, lengths: Ints, horizon: int, patch: int, limits: Limits) -> list[Call]:
    """Cut a batch into calls.

    Args:
        group_ids: int64 [rows].
        lengths: int64 [rows], observed steps of each row, as `observed_length` counts them.
        horizon: Steps ahead, the same for all rows.
        patch: Steps a token.
        limits: How large a call may be.

    Returns:
        Calls that hold every row exactly once and every group whole.

    Raises:
        UsageError: If a group is larger than `limits.rows` or than every profile.
    """
    if not limits.profiles:
        return _cut(group_ids, lengths, horizon, patch, limits)
    largest = int(np.unique(group_ids, return_counts=True)[1].max())
    holding = [size for size in limits.profiles if size >= largest] or [max(limits.profiles)]
    plans = [_cut(group_ids, lengths, horizon, patch, replace(limits, rows=size)) for size in sorted(holding)]
    return min(plans, key=lambda calls: sum(_padded_rows(call, limits.profiles) for call in calls))


def _padded_rows(call: Call, profiles: tuple[int, ...]) -> int:
    return min(size for size in profiles if size >= len(call.rows))


def _cut(group_ids: Ints, lengths: Ints, horizon: int, patch: int, limits: Limits) -> list[Call]:
    by_group = np.argsort(group_ids, kind="stable")
    ids = group_ids[by_group]
    begin = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    size = np.diff(begin, append=len(ids))
    tokens = -(-np.maximum.reduceat(lengths[by_group], begin) // patch) + 1 + -(-horizon // patch)
    calls: list[Call] = []
    # An engine has one graph for all groups, so with profiles singles fill up the calls of the others.
    kinds = (size == 1, size > 1) if not limits.profiles else (size > 0,)
    for kind in kinds:
        groups = np.flatnonzero(kind)
        groups = groups[np.lexsort((by_group[begin[groups]], -tokens[groups]))]
        end = np.cumsum(size[groups])
        before = begin[groups] - (end - size[groups])
        rows = by_group[np.repeat(before, size[groups]) + np.arange(int(size[groups].sum()))]
        univariate = not limits.profiles and kind is kinds[0]
        for first, last in _fill(size[groups].tolist(), tokens[groups].tolist(), limits):
            members = rows[end[first] - size[groups[first]] : end[last]]
            area = len(members) * int(tokens[groups[first]])
            calls.append(Call(members, int(lengths[members].max()), univariate, area))
    return calls


def _fill(sizes: Sequence[int], tokens: Sequence[int], limits: Limits) -> Iterator[tuple[int, int]]:
    """The first and the last group of each call, for groups whose longest rows have that many tokens.

    The groups come longest first, so the first of a call sets its width.
    """
    first = rows = used = 0
    for group, (size, width) in enumerate(zip(sizes, tokens, strict=True)):
        if limits.rows is not None and size > limits.rows:
            raise UsageError(
                f"a group of {size} rows is larger than every engine profile",
                allowed=f"groups of at most {limits.rows} rows",
                fix=f"chronos-export --batch {size} --force ...",
            )
        area = (rows + size) * tokens[first]
        padded = area - used - size * width
        full = limits.rows is not None and rows + size > limits.rows
        if group > first and (full or area > limits.tokens or padded > limits.padding * area):
            yield first, group - 1
            first, rows, used = group, 0, 0
        rows += size
        used += size * width
    if sizes:
        yield first, len(sizes) - 1
