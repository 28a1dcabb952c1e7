"""Rows to calls: where to cut a batch so that no work is spent on padding.

Groups never see each other, so a batch may be cut anywhere between groups and each piece answered apart:

    rows -> groups of one | other groups -> sorted by length -> calls of similar length and bounded size

Every piece drops the leading steps that are missing in all of its rows, which is exact: positions are
relative and the time encoding counts from the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """How large a call may be. A group is never cut, so one group may exceed `tokens`, never `rows`.

    Attributes:
        tokens: Rows x tokens a call aims at; about what fills the machine.
        padding: Largest share of a call's tokens that may be padding.
        rows: The most rows of a call, or None where any number will do.
        profiles: Row counts that a call is padded to, () where it is not.
    """

    tokens: int = 1600
    padding: float = 0.1
    rows: int | None = None
    profiles: tuple[int, ...] = ()


@dataclass(frozen=True)
class Call:
    """One call of a session.

    Attributes:
        rows: int64, positions in the batch, whole groups.
        context_length: Steps to keep of the context, counted from its end.
        univariate: Whether every row is a group of its own.
    """

    rows: Ints
    context_length: int
    univariate: bool


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
    groups = _groups(group_ids)
    ahead = 1 + -(-horizon // patch)
    calls: list[Call] = []
    # An engine has one graph for all groups, so with profiles singles fill up the calls of the others.
    kinds = (True, False) if not limits.profiles else (None,)
    for univariate in kinds:
        chosen = [rows for rows in groups if univariate is None or (len(rows) == 1) == univariate]
        tokens = [int(-(-lengths[rows].max() // patch)) + ahead for rows in chosen]
        longest_first = sorted(range(len(chosen)), key=lambda i: (-tokens[i], chosen[i][0]))
        for members in _fill(longest_first, [len(rows) for rows in chosen], tokens, limits):
            rows = np.concatenate([chosen[i] for i in members])
            calls.append(Call(rows, int(lengths[rows].max()), bool(univariate)))
    return calls


def _groups(group_ids: Ints) -> list[Ints]:
    order = np.argsort(group_ids, kind="stable")
    ids = group_ids[order]
    return np.split(order.astype(np.int64), np.flatnonzero(ids[1:] != ids[:-1]) + 1)


def _fill(order: Sequence[int], sizes: list[int], tokens: list[int], limits: Limits) -> list[list[int]]:
    """Groups in `order`, longest first, to calls; `tokens` counts the tokens of each group's longest row."""
    calls: list[list[int]] = []
    rows = used = 0
    for group in order:
        if limits.rows is not None and sizes[group] > limits.rows:
            raise UsageError(
                f"a group of {sizes[group]} rows is larger than every engine profile",
                allowed=f"groups of at most {limits.rows} rows",
                fix=f"chronos-export --batch {sizes[group]} --force ...",
            )
        if calls:
            width = tokens[calls[-1][0]]
            area = (rows + sizes[group]) * width
            padded = area - used - sizes[group] * tokens[group]
            full = limits.rows is not None and rows + sizes[group] > limits.rows
        if not calls or full or area > limits.tokens or padded > limits.padding * area:
            calls.append([])
            rows = used = 0
        calls[-1].append(group)
        rows += sizes[group]
        used += sizes[group] * tokens[group]
    return calls
