"""Filling a fixed profile: rows are added that no forecast can see.

A pad row is all NaN and a group of its own, so that no other row attends it.
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
    context: Tensor, group_ids: Tensor, future_covariates: Tensor, rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs of the graph with rows added up to `rows`.

    Args:
        context: float32 [n, context_length].
        group_ids: int64 [n].
        future_covariates: float32 [n, horizon].
        rows: How many there shall be, at least n.

    Returns:
        The three inputs with `rows` rows, the first n of which are the given ones.
    """
    added = rows - len(group_ids)
    if not added:
        return context, group_ids, future_covariates

    def filled(x: Tensor) -> Tensor:
        return torch.cat([x, x.new_full((added, x.shape[1]), torch.nan)])

    return filled(context), torch.cat([group_ids, unused_ids(group_ids, added)]), filled(future_covariates)


def unused_ids(group_ids: Tensor, count: int) -> Tensor:
    """int64 [count], distinct ids that are not among `group_ids`."""
    candidates = torch.arange(len(group_ids) + count, device=group_ids.device)
    free = candidates[~torch.isin(candidates, group_ids)]
    return free[:count]
