"""Attention among the rows of one group, token by token: the operator and its reference.

`torch.ops.chronos.group_attention` is what the rewritten model calls, what ONNX carries as
`chronos::GroupAttention` and what the CUDA kernel implements. Here are its meaning in plain PyTorch, its
shape for tracing and its gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def group_attention_reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segment_begin: Tensor,
    segment_end: Tensor,
    key_mask: Tensor,
    num_heads: int,
    dropout: float = 0.0,
) -> Tensor:
    """Attend within segments of sorted rows, in time and memory linear in the number of segments.

    Segments of equal length are attended together, so nothing is padded. A segment of one needs no scores.

    Args:
        query: [rows, tokens, num_heads * head_dim], any floating type.
        key: As query.
        value: As query.
        segment_begin: int32 [rows], sorted positions; row i attends rows begin[i] .. end[i] - 1.
        segment_end: int32 [rows].
        key_mask: bool [rows, tokens], True where the token is alive.
        num_heads: Heads that the last dimension is split into.
        dropout: Probability of dropping an attention weight, for training.

    Returns:
        Like query. Dead queries, and segments with no alive key, give 0. Scores are not scaled.

    Source: chronos-forecasting 2.3.2, chronos2/layers.py, GroupSelfAttention (dense over the batch there).
    """
    lengths = segment_end - segment_begin
    first = segment_begin == torch.arange(len(lengths), device=lengths.device, dtype=lengths.dtype)
    out = value
    for length in sorted(set(lengths[first].tolist()) - {1}):
        starts = segment_begin[first & (lengths == length)].long()
        rows = (starts[:, None] + torch.arange(length, device=starts.device)).flatten()
        attended = _attend(query[rows], key[rows], value[rows], key_mask[rows], length, num_heads, dropout)
        out = attended if len(rows) == len(out) else out.index_copy(0, rows, attended)
    if dropout > 0:
        single = (lengths == 1)[:, None, None]
        out = torch.where(single, _dropped_singles(out, num_heads, dropout), out)
    return torch.where(key_mask[..., None], out, torch.zeros((), dtype=out.dtype, device=out.device))


def _attend(
    query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, length: int, num_heads: int, dropout: float
) -> Tensor:
    """Attention inside consecutive segments of one length; [segments * length, tokens, heads * dim]."""
    rows, tokens, width = query.shape

    def by_token(x: Tensor) -> Tensor:
        x = x.reshape(rows // length, length, tokens, num_heads, width // num_heads)
        return x.permute(0, 2, 3, 1, 4).flatten(0, 1)

    alive = key_mask.reshape(rows // length, length, tokens).transpose(1, 2).flatten(0, 1)[:, None, None, :]
    bias = torch.zeros_like(alive, dtype=query.dtype).masked_fill(~alive, torch.finfo(query.dtype).min)
    out = F.scaled_dot_product_attention(
        by_token(query), by_token(key), by_token(value), attn_mask=bias, dropout_p=dropout, scale=1.0
    )
    out = out.reshape(rows // length, tokens, num_heads, length, -1).permute(0, 3, 1, 2, 4)
    return out.reshape(rows, tokens, width)


def _dropped_singles(value: Tensor, num_heads: int, dropout: float) -> Tensor:
    """A group of one has one weight of 1 per token and head, and training drops that too."""
    ones = torch.ones(*value.shape[:2], num_heads, 1, dtype=value.dtype, device=value.device)
    split = value.reshape(*value.shape[:2], num_heads, -1)
    return (F.dropout(ones, dropout) * split).flatten(-2)


@torch.library.custom_op("chronos::group_attention", mutates_args=())
def group_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segment_begin: Tensor,
    segment_end: Tensor,
    key_mask: Tensor,
    num_heads: int,
) -> Tensor:
    """`group_attention_reference` as one operator, so that exporters and kernels can recognise it."""
    return group_attention_reference(query, key, value, segment_begin, segment_end, key_mask, num_heads)


@group_attention.register_fake
def _shape(query: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(query)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.num_heads = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, begin, end, key_mask = ctx.saved_tensors
    with torch.enable_grad():
        leaves = q, k, v = tuple(x.detach().requires_grad_() for x in (query, key, value))
        out = group_attention_reference(q, k, v, begin, end, key_mask, ctx.num_heads)
        # Singles use neither query nor key, so either may be absent from the graph.
        grads = torch.autograd.grad(out, leaves, grad, allow_unused=True, materialize_grads=True)
    return (*grads, None, None, None, None)


group_attention.register_autograd(_backward, setup_context=_save)
