"""Group attention with what PyTorch has, each from and to [rows, tokens, heads * head_dim].

A peer is prepared once per problem (masks, index tensors: not timed) and then called. All segments of a timed
problem have one length, which is the best case for every peer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .problem import Problem

Prepared = Callable[[Problem], Tensor]


def dense_masked(problem: Problem) -> Prepared:
    """All rows against all rows under a mask, as upstream does it; the mask is contiguous."""
    begin = problem.segment_begin
    same = begin[:, None] == begin[None, :]
    mask = (same[None] & problem.key_mask.T[:, None, :])[:, None]
    bias = torch.zeros(mask.shape, dtype=problem.query.dtype, device=mask.device)
    bias.masked_fill_(~mask, torch.finfo(problem.query.dtype).min)

    def run(p: Problem) -> Tensor:
        q, k, v = (x.unflatten(-1, (p.heads, -1)).permute(1, 2, 0, 3) for x in (p.query, p.key, p.value))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return out.permute(2, 0, 1, 3).flatten(-2)

    return run


def padded(problem: Problem) -> Prepared:
    """[groups, longest]: one batched call; with one length there is no padding, and views suffice."""
    length = _length(problem)
    alive = problem.key_mask.unflatten(0, (-1, length)).transpose(1, 2)  # [groups, tokens, length]
    bias = torch.zeros(alive.shape, dtype=problem.query.dtype, device=alive.device)
    bias = bias.masked_fill(~alive, torch.finfo(bias.dtype).min).repeat_interleave(problem.heads, dim=1)
    bias = _aligned(bias[:, :, None, :]).expand(-1, -1, length, -1)

    def run(p: Problem) -> Tensor:
        q, k, v = (_by_group(x, p, length) for x in (p.query, p.key, p.value))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return out.transpose(1, 2).reshape(p.query.shape)

    return run


def group_loop(problem: Problem) -> Prepared:
    """One call a group, as pull request 442 does it."""
    length = _length(problem)
    prepared = [padded(_rows(problem, i, length)) for i in range(0, len(problem.query), length)]

    def run(p: Problem) -> Tensor:
        parts = (_rows(p, i * length, length) for i in range(len(prepared)))
        return torch.cat([attend(part) for attend, part in zip(prepared, parts, strict=True)])

    return run


def varlen(problem: Problem) -> Prepared:
    """torch.nn.attention.varlen: FlashAttention over packed sequences, one a group and token. No key mask."""
    from torch.nn.attention.varlen import varlen_attn

    _need_all_alive(problem)
    length = _length(problem)
    limits = _packed_limits(problem, length)
    scaled = "scale" in inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"scale": 1.0} if scaled else {}

    def run(p: Problem) -> Tensor:
        q, k, v = (_packed(x, p) for x in (p.query, p.key, p.value))
        if not scaled:
            q = q * q.shape[-1] ** 0.5
        out = varlen_attn(q, k, v, limits, limits, length, length, **options)
        return _unpacked(out, p)

    return run


def nested(problem: Problem) -> Prepared:
    """Nested (jagged) tensors, one sequence a group and token. No key mask."""
    _need_all_alive(problem)
    length = _length(problem)
    limits = _packed_limits(problem, length)

    def run(p: Problem) -> Tensor:
        q, k, v = (
            torch.nested.nested_tensor_from_jagged(
                _packed(x, p), limits, min_seqlen=length, max_seqlen=length
            ).transpose(1, 2)
            for x in (p.query, p.key, p.value)
        )
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2)
        return _unpacked(out.values(), p)

    return run


def flex(problem: Problem) -> Prepared:
    """flex_attention, compiled, with a block mask of the segments. No key mask."""
    from torch.nn.attention.flex_attention import create_block_mask

    _need_all_alive(problem)
    rows, device = len(problem.query), problem.query.device
    segments = _segments(rows, device)
    segments.begin.copy_(problem.segment_begin)
    mask = create_block_mask(segments.same_segment, None, None, rows, rows, device=str(device))
    attend = _compiled_flex()

    def run(p: Problem) -> Tensor:
        q, k, v = (x.unflatten(-1, (p.heads, -1)).permute(1, 2, 0, 3) for x in (p.query, p.key, p.value))
        return attend(q, k, v, block_mask=mask, scale=1.0).permute(2, 0, 1, 3).flatten(-2)

    return run


PEERS: dict[str, Callable[[Problem], Prepared]] = {
    "dense masked SDPA": dense_masked,
    "padded [groups, longest] SDPA": padded,
    "loop over groups": group_loop,
    "torch varlen_attn": varlen,
    "nested tensor SDPA": nested,
    "flex_attention": flex,
}


class _Segments:
    """A mask over a buffer that keeps its place: a new mask function would be compiled anew."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.begin = begin = torch.zeros(rows, dtype=torch.int32, device=device)

        def same_segment(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return begin[q] == begin[k]

        self.same_segment = same_segment


_segments = cache(_Segments)


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def _aligned(bias: Tensor) -> Tensor:
    """The same numbers, each row at a multiple of 8: or fused attention copies them in every call."""
    length = bias.shape[-1]
    return F.pad(bias, (0, -length % 8))[..., :length]


def _length(problem: Problem) -> int:
    lengths = (problem.segment_end - problem.segment_begin).unique()
    if len(lengths) != 1:
        raise ValueError("peers are prepared for segments of one length")
    return int(lengths[0])


def _need_all_alive(problem: Problem) -> None:
    if not bool(problem.key_mask.all()):
        raise ValueError("takes no key mask")


def _rows(p: Problem, first: int, count: int) -> Problem:
    part = slice(first, first + count)
    begin = torch.zeros_like(p.segment_begin[part])
    return Problem(p.query[part], p.key[part], p.value[part], begin, begin + count, p.key_mask[part], p.heads)


def _by_group(x: Tensor, p: Problem, length: int) -> Tensor:
    """[groups, tokens * heads, length, head_dim], a view."""
    rows, tokens, width = x.shape
    return x.view(rows // length, length, tokens * p.heads, width // p.heads).transpose(1, 2)


def _packed(x: Tensor, p: Problem) -> Tensor:
    """[tokens * rows, heads, head_dim], a copy: a sequence is the rows of one group at one token."""
    return x.transpose(0, 1).reshape(-1, p.heads, x.shape[-1] // p.heads)


def _unpacked(x: Tensor, p: Problem) -> Tensor:
    rows, tokens, _ = p.query.shape
    return x.reshape(tokens, rows, -1).transpose(0, 1).contiguous()


def _packed_limits(problem: Problem, length: int) -> Tensor:
    """int32 [sequences + 1], where each sequence begins and the last one ends."""
    rows, tokens, _ = problem.query.shape
    return torch.arange(0, rows * tokens + 1, length, dtype=torch.int32, device=problem.query.device)
