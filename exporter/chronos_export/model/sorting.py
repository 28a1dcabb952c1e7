"""Group ids to sorted segments: the one place where rows are put in order.

    group_ids   7 3 7 3 9          only equality matters
    order       1 3 0 2 4          row found at each sorted position
    rank        2 0 3 1 4          sorted position of each row
    begin       0 0 2 2 4          first sorted position of that position's segment
    end         2 2 4 4 5          one past its last

All shapes depend on the number of rows alone, so nothing waits for a GPU to say how many groups there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Rows in sorted order, stable within a group.

    Attributes:
        order: int64 [rows], the row found at each sorted position.
        rank: int64 [rows], the sorted position of each row; the inverse of `order`.
        begin: int32 [rows], per sorted position, the first position of its segment.
        end: int32 [rows], per sorted position, one past the last position of its segment.
    """

    order: Tensor
    rank: Tensor
    begin: Tensor
    end: Tensor


def sort_rows(group_ids: Tensor) -> Segments:
    """Put the rows of each group side by side.

    Args:
        group_ids: int64 [rows], any values in any order.

    Returns:
        The segments. `values[order]` is sorted; `sorted_values[rank]` is back in the caller's order.
    """
    values, order = group_ids.sort(stable=True)
    begin = torch.searchsorted(values, values, out_int32=True)
    end = torch.searchsorted(values, values, out_int32=True, right=True)
    position = torch.arange(len(group_ids), device=group_ids.device)
    rank = torch.zeros_like(position).scatter(0, order, position)
    return Segments(order=order, rank=rank, begin=begin, end=end)
