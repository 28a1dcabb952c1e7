"""Rows to calls: where to cut a batch so that no work is spent on padding.

Groups never see each other, so a batch may be cut anywhere between groups and each piece answered apart:

    rows -> groups of one | other groups -> sorted by length -> calls of similar length and bounded size

Every piece drops the leading steps that are missing in all of its rows, which is exact: positions are
relative and the time encoding counts from the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chronos_export.artifact.engine_info import Profile
from chronos_export.runtime.profiles import too_large

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """How large a call may be. A group is never cut, so one group may exceed `tokens`, but no profile.

    Attributes:
        tokens: The most rows x tokens of a call; what fills the machine.
        padding: Largest share of a call's tokens that may be padding.
        least: Rows x tokens up to which a call may be padded more, because two calls would take longer.
        profiles: What a call with groups must fit one of; () where any will do.
        univariate_profiles: The same for a call of univariate rows; None where they go with the groups.
        shared: How fast a thread works on a call that all threads share, relative to a call of its own.
    """

    tokens: int = 800
    padding: float = 0.1
    profiles: tuple[Profile, ...] = ()
    univariate_profiles: tuple[Profile, ...] | None = ()
    least: int = 0
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
        UsageError: If a group fits no profile.
    """
    by_group = np.argsort(group_ids, kind="stable")
    ids = group_ids[by_group]
    begin = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    size = np.diff(begin, append=len(ids))
    longest = np.maximum.reduceat(lengths[by_group], begin)
    tokens = -(-longest // patch) + 1 + -(-horizon // patch)
    calls: list[Call] = []
    for kind, profiles, univariate in _kinds(size, limits):
        groups = np.flatnonzero(kind)
        groups = groups[np.lexsort((by_group[begin[groups]], -longest[groups]))]
        end = np.cumsum(size[groups])
        before = begin[groups] - (end - size[groups])
        rows = by_group[np.repeat(before, size[groups]) + np.arange(int(size[groups].sum()))]
        of_each = (size[groups].tolist(), tokens[groups].tolist(), longest[groups].tolist())
        for first, last in _fill(*of_each, limits, profiles):
            members = rows[end[first] - size[groups[first]] : end[last]]
            area = len(members) * int(tokens[groups[first]])
            calls.append(Call(members, int(longest[groups[first]]), univariate, area))
    return calls


def _kinds(size: Ints, limits: Limits) -> Iterator[tuple[NDArray[np.bool_], Sequence[Profile], bool]]:
    """Which groups share calls, the profiles of those calls, and whether all rows are univariate."""
    if limits.univariate_profiles is None:
        yield size > 0, limits.profiles, False
    else:
        yield size == 1, limits.univariate_profiles, True
        yield size > 1, limits.profiles, False


def _fill(
    sizes: Sequence[int],
    tokens: Sequence[int],
    steps: Sequence[int],
    limits: Limits,
    profiles: Sequence[Profile],
) -> Iterator[tuple[int, int]]:
    """The first and the last group of each call, given rows, and tokens and steps of the longest row.

    The groups come longest first, so the first of a call sets its width.
    """
    first = rows = used = 0
    most = _most_rows(steps[0], profiles) if sizes else None
    for group, (size, width) in enumerate(zip(sizes, tokens, strict=True)):
        area = (rows + size) * tokens[first]
        padded = area - used - size * width
        full = most is not None and rows + size > most
        wasteful = area > limits.least and padded > limits.padding * area
        if group > first and (full or wasteful or area > limits.tokens):
            yield first, group - 1
            first, rows, used = group, 0, 0
            most = _most_rows(steps[group], profiles)
        if most is not None and size > most and group == first:
            raise too_large(
                f"{size} rows of one group with {steps[group]} steps", size, steps[group], profiles
            )
        rows += size
        used += size * width
    if sizes:
        yield first, len(sizes) - 1


def _most_rows(steps: int, profiles: Sequence[Profile]) -> int | None:
    """The most rows of a call of so many steps; None where any number will do."""
    return (
        max((profile.rows for profile in profiles if profile.context >= steps), default=0)
        if profiles
        else None
    )
