"""Filling a fixed profile: rows are added that no forecast can see.

A pad row is all NaN and a group of its own, so that no other row attends it. Steps that are missing before a
context change nothing either: positions are relative, and missing tokens are not attended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError
from chronos_export.runtime.session import Floats, Ints

Allocate = Callable[[tuple[int, ...], Any], NDArray[Any]]  # shape and type to an array


def smallest_profile(rows: int, profiles: Sequence[int]) -> int:
    """Return the position of the smallest profile that holds `rows`.

    Raises:
        UsageError: None does; says which `--batch` would.
    """
    fitting = [number for number, size in enumerate(profiles) if size >= rows]
    if not fitting:
        raise UsageError(
            f"{rows} rows in one call are more than any engine profile holds",
            allowed=f"at most {max(profiles)} rows",
            fix=f"chronos-export --batch {','.join(map(str, [*profiles, rows]))} --force ...",
        )
    return min(fitting, key=lambda number: profiles[number])


def pad_rows(
    context: Floats,
    group_ids: Ints,
    future_covariates: Floats,
    rows: int,
    steps: int | None = None,
    allocate: Allocate = np.empty,
) -> tuple[Floats, Ints, Floats]:
    """Return the inputs of the graph with rows added up to `rows`, and missing steps before the context.

    Args:
        context: float32 [n, context_length].
        group_ids: int64 [n].
        future_covariates: float32 [n, horizon].
        rows: How many there shall be, at least n.
        steps: How long the context shall be, at least context_length, which is the default.
        allocate: Makes the arrays that are filled.

    Returns:
        The three inputs with `rows` rows, the first n of which are the given ones, in new arrays.
    """
    ids = allocate((rows,), np.int64)
    given = len(group_ids)
    ids[:given], ids[given:] = group_ids, unused_ids(group_ids, rows - given)
    return (
        _filled(context, rows, steps or context.shape[1], allocate),
        ids,
        _filled(future_covariates, rows, future_covariates.shape[1], allocate),
    )


def _filled(x: Floats, rows: int, steps: int, allocate: Allocate) -> Floats:
    """float32 [rows, steps]: `x` in its first rows and last steps, NaN elsewhere."""
    given, before = len(x), steps - x.shape[1]
    out = allocate((rows, steps), np.float32)
    out[:given, before:] = x
    out[:given, :before] = np.nan
    out[given:] = np.nan
    return out


def unused_ids(group_ids: Ints, count: int) -> Ints:
    """Return int64 [count], distinct ids that are not among `group_ids`."""
    candidates = np.arange(len(group_ids) + count)
    return candidates[~np.isin(candidates, group_ids)][:count]
