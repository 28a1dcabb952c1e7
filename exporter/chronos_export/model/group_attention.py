"""Attention among the rows of one group, token by token: the operator, its reference and its gradient.

`torch.ops.chronos.group_attention` is what the rewritten model calls, what ONNX carries as
`chronos::GroupAttention` and what the CUDA kernel implements. Here are its meaning in plain PyTorch, its
shape for tracing and its gradient in closed form, which is an operator too: both depend on the segments, and
`torch.compile` need not look inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from chronos_export.errors import UsageError

_SCHEMA = (
    "Tensor query, Tensor key, Tensor value, Tensor segment_begin, Tensor segment_end, Tensor key_mask, "
    "int num_heads, float dropout=0.0, Tensor? seed=None"
)
# Numbers of a tensor in a piece of work: on a CPU it stays in the cache, on a GPU it is worth its launches.
_CPU_PIECE, _GPU_PIECE = 2**18, 2**24


class Arguments(NamedTuple):
    """What group attention takes, in the operator's order.

    Attributes:
        query: [rows, tokens, num_heads * head_dim], any floating type.
        key: As query.
        value: As query.
        segment_begin: int32 [rows], sorted positions; row i attends rows begin[i] .. end[i] - 1.
        segment_end: int32 [rows].
        key_mask: bool [rows, tokens], True where the token is alive.
        num_heads: Heads that the last dimension is split into.
        dropout: Probability of dropping an attention weight, for training.
        seed: int64 scalar on the CPU, which weights are dropped; needed where dropout is not 0.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    segment_begin: Tensor
    segment_end: Tensor
    key_mask: Tensor
    num_heads: int
    dropout: float = 0.0
    seed: Tensor | None = None


def group_attention_reference(arguments: Arguments) -> Tensor:
    """Attend within segments of sorted rows, in time and memory linear in the number of segments.

    Segments of equal length are attended together, so nothing is padded. A segment of one is its value.

    Args:
        arguments: Queries, keys, values and the segments.

    Returns:
        Like query. Dead queries, and segments with no alive key, give 0. Scores are not scaled.

    Source: chronos-forecasting 2.3.2, chronos2/layers.py, GroupSelfAttention (dense over the batch there).
    """
    out = torch.empty_like(arguments.query).copy_(arguments.value)
    if arguments.dropout > 0:
        for piece in _pieces(arguments):
            query, key, value = map(piece.split, arguments[:3])
            weights, kept = piece.weights(query, key)
            piece.put(out, weights * kept @ value)
    else:
        for lane in _lanes(arguments):
            lane.put(out, _attend(arguments, lane))
    return out.masked_fill_(~arguments.key_mask[..., None], 0)


def group_attention_gradient(grad: Tensor, arguments: Arguments) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by query, key and value; sums in float32, time and memory as the reference.

    Args:
        grad: The gradient by the output, of its shape.
        arguments: As for the output; with dropout, the same seed drops the same weights.

    Returns:
        Like query, key and value. Dead tokens get 0, and so do query and key in a segment of one.
    """
    by_query, by_key = torch.zeros_like(arguments.query), torch.zeros_like(arguments.key)
    by_value = torch.empty_like(arguments.value).copy_(grad)
    by_value.masked_fill_(~arguments.key_mask[..., None], 0)
    for piece in _pieces(arguments):
        query, key, value, by_out = map(piece.split, (*arguments[:3], by_value))
        weights, kept = piece.weights(query, key)
        by_weight = (by_out @ value.mT).mul_(kept)
        by_score = by_weight.sub_((by_weight * weights).sum(-1, keepdim=True)).mul_(weights)
        piece.put(by_query, by_score @ key)
        piece.put(by_key, by_score.mT @ query)
        piece.put(by_value, weights.mul_(kept).mT @ by_out)
    return by_query, by_key, by_value


@dataclass(frozen=True)
class _Lane:
    """All segments of one length.

    Attributes:
        length: Of its segments.
        rows: int64 [segments, length], or None where these are all rows there are.
    """

    length: int
    rows: Tensor | None

    def take(self, x: Tensor) -> Tensor:
        """[rows, ...] to [segments, length, ...]."""
        return x.view(-1, self.length, *x.shape[1:]) if self.rows is None else x[self.rows]

    def put(self, out: Tensor, x: Tensor) -> None:
        """The inverse of `take`, into `out`."""
        if self.rows is None:
            self.take(out).copy_(x)
        else:
            out[self.rows] = x


def _lanes(arguments: Arguments) -> Iterator[_Lane]:
    """The lanes that need attention: a segment of one has a single weight of 1, unless it may be dropped."""
    lengths = arguments.segment_end - arguments.segment_begin
    distinct = lengths.unique().tolist()
    for length in distinct:
        if length > 1 or arguments.dropout > 0:
            rows = (lengths == length).nonzero().view(-1, length) if len(distinct) > 1 else None
            yield _Lane(length, rows)


def _attend(arguments: Arguments, lane: _Lane) -> Tensor:
    """A lane without dropout. Tokens count as heads, so that all stays as it lies in memory."""
    heads = arguments.num_heads

    def by_head(x: Tensor) -> Tensor:
        split: Tensor = lane.take(x).unflatten(3, (heads, -1))
        return split.flatten(2, 3).transpose(1, 2)

    query, key, value = map(by_head, arguments[:3])
    bias = _bias(by_head(arguments.key_mask[..., None].expand(-1, -1, heads)).mT, query.dtype)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    return out.transpose(1, 2).reshape(*out.shape[:1], lane.length, *arguments.query.shape[1:])


@dataclass(frozen=True)
class _Piece:
    """Some tokens of a lane, with the scores of all their heads.

    Attributes:
        arguments: What it is a piece of.
        lane: Its segments.
        tokens: Its tokens.
        generator: What drops weights, None where nothing is dropped; the pieces draw from it in turn.
    """

    arguments: Arguments
    lane: _Lane
    tokens: slice
    generator: torch.Generator | None

    def split(self, x: Tensor) -> Tensor:
        """[rows, tokens, heads * dim] to [segments, tokens, heads, length, dim], at least in float32."""
        x = self.lane.take(x[:, self.tokens]).unflatten(3, (self.arguments.num_heads, -1))
        return x.permute(0, 2, 3, 1, 4).contiguous().to(torch.promote_types(x.dtype, torch.float32))

    def put(self, out: Tensor, x: Tensor) -> None:
        """The inverse of `split`, into `out`."""
        heads = out[:, self.tokens].unflatten(2, (self.arguments.num_heads, -1))
        self.lane.put(heads, x.permute(0, 3, 1, 2, 4).to(out.dtype))

    def weights(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor | float]:
        """Attention weights [segments, tokens, heads, length, length], and the factor that drops some."""
        alive = self.lane.take(self.arguments.key_mask[:, self.tokens]).transpose(1, 2)
        weights = (query @ key.mT).add_(_bias(alive[:, :, None, None], query.dtype)).softmax(-1)
        if self.generator is None:
            return weights, 1.0
        share = 1 - self.arguments.dropout
        return weights, torch.empty_like(weights).bernoulli_(share, generator=self.generator) / share


def _pieces(arguments: Arguments) -> Iterator[_Piece]:
    """The lanes, some tokens at a time, so that the scores do not fill the memory."""
    device, generator = arguments.query.device, None
    if arguments.dropout > 0:
        assert arguments.seed is not None
        generator = torch.Generator(device).manual_seed(int(arguments.seed))
    rows, tokens, width = arguments.query.shape
    most = _CPU_PIECE if device.type == "cpu" else _GPU_PIECE
    for lane in _lanes(arguments):
        lane_rows = rows if lane.rows is None else lane.rows.numel()
        step = max(1, most // (lane_rows * max(width, arguments.num_heads * lane.length)))
        for first in range(0, tokens, step):
            yield _Piece(arguments, lane, slice(first, first + step), generator)


def _bias(alive: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores: the smallest number at dead keys, finite so that no segment becomes NaN.

    Contiguous, or PyTorch would spell it out for every query.
    """
    return torch.zeros(alive.shape, dtype=dtype, device=alive.device).masked_fill_(
        ~alive, torch.finfo(dtype).min
    )


@torch.library.custom_op("chronos::group_attention", mutates_args=(), schema=f"({_SCHEMA}) -> Tensor")
def group_attention(*arguments: Any) -> Tensor:
    """`group_attention_reference` as one operator, so that exporters and kernels can recognise it."""
    return group_attention_reference(Arguments(*arguments))


@torch.library.custom_op(
    "chronos::group_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_SCHEMA}) -> (Tensor, Tensor, Tensor)",
)
def group_attention_backward(grad: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """`group_attention_gradient` as one operator."""
    return group_attention_gradient(grad, Arguments(*arguments))


@group_attention.register_fake
def _shape(*arguments: Any) -> Tensor:
    return torch.empty_like(arguments[0])


@group_attention_backward.register_fake
def _shapes(_: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x) for x in arguments[:3])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.num_heads, ctx.dropout, seed = inputs
    ctx.save_for_backward(*tensors, seed)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, seed = ctx.saved_tensors
    grads = group_attention_backward(grad, *tensors, ctx.num_heads, ctx.dropout, seed)
    return (*grads, *(None,) * 6)


def _no_second_derivative(ctx: Any, *_: Tensor) -> None:
    raise UsageError("group attention has no second derivative", allowed="create_graph=False")


group_attention.register_autograd(_backward, setup_context=_save)
group_attention_backward.register_autograd(_no_second_derivative)
