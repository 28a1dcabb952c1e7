"""Filling a fixed profile: rows are added that no forecast can see.

A pad row is all NaN and a group of its own, so that no other row attends it. Steps that are missing before a
context change nothing either: positions are relative, and missing tokens are not attended.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from chronos_export.errors import UsageError


def smallest_profile(rows: int, profiles: Sequence[int]) -> int:
    """The position of the smallest profile that holds `rows`.

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
    context: Tensor,
    group_ids: Tensor,
    future_covariates: Tensor,
    rows: int,
    steps: int | None = None,
    *,
    pinned: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs of the graph with rows added up to `rows`, and missing steps before the context.

    Args:
        context: float32 [n, context_length].
        group_ids: int64 [n].
        future_covariates: float32 [n, horizon].
        rows: How many there shall be, at least n.
        steps: How long the context shall be, at least context_length, which is the default.
        pinned: Put what is on the CPU into page-locked memory, from where a GPU fetches it by itself.

    Returns:
        The three inputs with `rows` rows, the first n of which are the given ones; a tensor that is as it
        should be is returned itself.
    """
    added = rows - len(group_ids)
    ids = torch.cat([group_ids, unused_ids(group_ids, added)]) if added else group_ids
    return (
        _filled(context, rows, steps or context.shape[1], pinned),
        ids.pin_memory() if pinned and ids.is_cpu else ids,
        _filled(future_covariates, rows, future_covariates.shape[1], pinned),
    )


def _filled(x: Tensor, rows: int, steps: int, pinned: bool) -> Tensor:
    """float32 [rows, steps]: `x` in its first rows and last steps, NaN elsewhere; copied at most once."""
    pin = pinned and x.is_cpu
    if x.shape == (rows, steps) and not pin:
        return x
    given, before = len(x), steps - x.shape[1]
    out = torch.empty((rows, steps), dtype=x.dtype, device=x.device, pin_memory=pin)
    out[:given, before:] = x
    out[:given, :before] = torch.nan
    out[given:] = torch.nan
    return out


def unused_ids(group_ids: Tensor, count: int) -> Tensor:
    """int64 [count], distinct ids that are not among `group_ids`."""
    candidates = torch.arange(len(group_ids) + count, device=group_ids.device)
    free = candidates[~torch.isin(candidates, group_ids)]
    return free[:count]
