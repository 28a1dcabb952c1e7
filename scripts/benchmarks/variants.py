"""Upstream's model with another group attention, as its users and its pull requests would write it.

Each takes an upstream model and returns one that shares its weights:

    contiguous_mask    upstream, but the group mask is copied so that its last stride is 1
    per_group          one attention per group: our reading of pull request 442
    padded             groups padded to the longest, one attention over [groups, longest]
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.layers import AttentionOutput
from torch import Tensor, nn
from torch.nn import functional as F

from chronos_export.errors import MachineError


def sharing_weights(model: Chronos2Model) -> Chronos2Model:
    """A copy of everything but the weights."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def contiguous_mask(model: Chronos2Model) -> Chronos2Model:
    """Upstream's mask is a transposed view, which CUDA's fused attention kernels refuse."""
    changed = sharing_weights(model)
    build = changed.encoder._construct_and_invert_group_time_mask
    changed.encoder._construct_and_invert_group_time_mask = lambda *args: build(*args).contiguous()
    return changed


def per_group(model: Chronos2Model) -> Chronos2Model:
    """A loop over the groups inside every group attention; cost grows with the number of groups."""
    return _with_group_attention(model, lambda groups: [[group] for group in groups])


def padded(model: Chronos2Model) -> Chronos2Model:
    """One attention over groups padded to the longest; its memory grows with groups x longest."""
    return _with_group_attention(model, lambda groups: [groups])


@dataclass(frozen=True)
class Batch:
    """Groups attended together, each padded to the longest of them.

    Attributes:
        places: int64 [groups, longest], the row at each place, any where there is none.
        filled: bool [groups, longest], whether there is one.
        bias: float [groups, tokens, 1, 1, longest], 0 for an alive key, else the lowest number.
    """

    places: Tensor
    filled: Tensor
    bias: Tensor


class PaddedGroupAttention(nn.Module):
    """Upstream's layer, its attention computed batch by batch of groups."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer: Any = layer

    def forward(
        self, hidden_states: Tensor, attention_mask: list[Batch], output_attentions: bool = False
    ) -> AttentionOutput:
        """As upstream's; `attention_mask` is what `_batches` made of the group ids."""
        attention = self.layer.self_attention
        normed = self.layer.layer_norm(hidden_states)
        query, key, value = attention.q(normed), attention.k(normed), attention.v(normed)
        mixed = torch.empty_like(value)
        for batch in attention_mask:
            heads = attention.n_heads
            out = _attend(query[batch.places], key[batch.places], value[batch.places], batch.bias, heads)
            mixed[batch.places[batch.filled]] = out[batch.filled]
        return AttentionOutput(hidden_states=hidden_states + attention.o(mixed))


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, heads: int) -> Tensor:
    """Attention over the rows of each group, token by token; all [groups, longest, tokens, heads * dim]."""
    q, k, v = (x.unflatten(3, (heads, -1)).permute(0, 2, 3, 1, 4) for x in (query, key, value))
    q, k, v, bias = (x.flatten(0, 1) for x in (q, k, v, bias))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
    rows: Tensor = out.unflatten(0, (len(query), -1))
    return rows.permute(0, 3, 1, 2, 4).flatten(3)


def _with_group_attention(
    model: Chronos2Model, batched: Callable[[list[Tensor]], list[list[Tensor]]]
) -> Chronos2Model:
    changed = sharing_weights(model)
    width = model.config.num_heads * model.config.d_kv
    for block in changed.encoder.block:
        block.layer[1] = PaddedGroupAttention(block.layer[1])

    def batches(group_ids: Tensor, attention_mask: Tensor, dtype: torch.dtype) -> list[Batch]:
        groups = [torch.nonzero(group_ids == group).flatten() for group in group_ids.unique()]
        return list(_batches(batched(groups), attention_mask, dtype, width))

    # Upstream hands this method's result to every group attention untouched.
    changed.encoder._construct_and_invert_group_time_mask = batches
    return changed


def _batches(
    batches: list[list[Tensor]], attention_mask: Tensor, dtype: torch.dtype, width: int
) -> Iterator[Batch]:
    for groups in batches:
        longest = max(len(rows) for rows in groups)
        _refuse_if_too_large(len(groups) * longest * attention_mask.shape[1] * width, len(groups), longest)
        places = torch.zeros(len(groups), longest, dtype=torch.int64)
        filled = torch.zeros(len(groups), longest, dtype=torch.bool)
        for number, rows in enumerate(groups):
            places[number, : len(rows)] = rows
            filled[number, : len(rows)] = True
        alive = filled[..., None] & (attention_mask[places] > 0)
        bias = torch.zeros(alive.shape, dtype=dtype).masked_fill(~alive, torch.finfo(dtype).min)
        yield Batch(places, filled, bias.transpose(1, 2)[:, :, None, None, :])


def _refuse_if_too_large(elements: int, groups: int, longest: int) -> None:
    needed = 6 * 4 * elements  # query, key, value and result as gathered, and copies for the kernel
    free = psutil.virtual_memory().available
    if needed > free / 2:
        raise MachineError(
            f"{groups} groups padded to {longest} rows need {needed / 1e9:.0f} of {free / 1e9:.0f} GB"
        )
