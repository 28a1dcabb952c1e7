"""Inputs of group attention, the answer in float64, and how far a right kernel may be from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

UNIT_ROUNDOFF = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
TF32_ROUNDOFF = 2.0**-11
MODES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
LAYOUTS = ("rows", "tokens", "fused", "unaligned")

Run = Callable[["Problem"], Tensor]


@dataclass(frozen=True)
class Problem:
    """What the operator takes.

    Args:
        query: [rows, tokens, heads * head_dim]; key and value likewise.
        segment_begin: int32 [rows].
        segment_end: int32 [rows].
        key_mask: bool [rows, tokens].
        heads: Number of heads.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    segment_begin: Tensor
    segment_end: Tensor
    key_mask: Tensor
    heads: int

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int]:
        """In the operator's order."""
        tensors = (self.query, self.key, self.value, self.segment_begin, self.segment_end, self.key_mask)
        return (*tensors, self.heads)

    def at_tokens(self, tokens: Sequence[int]) -> Problem:
        """The same problem at some tokens only."""
        cut = [x[:, list(tokens)] for x in (self.query, self.key, self.value)]
        return Problem(*cut, self.segment_begin, self.segment_end, self.key_mask[:, list(tokens)], self.heads)


def make_problem(
    segments: Sequence[int],
    tokens: int,
    heads: int,
    head_dim: int,
    dtype: torch.dtype,
    *,
    device: str,
    layout: str = "rows",
    dead: float = 0.0,
    scale: float = 0.6,
    seed: int = 0,
) -> Problem:
    """Random inputs.

    Args:
        segments: Their lengths, in order.
        tokens: Tokens of a row.
        heads: Number of heads.
        head_dim: Width of a head.
        dtype: Of query, key and value.
        device: Where.
        layout: One of `LAYOUTS`: dense with rows or with tokens outermost, one [rows, tokens, 3 * width]
            buffer, or rows that start anywhere.
        dead: Share of dead tokens.
        scale: Standard deviation of the numbers.
        seed: Of the random numbers.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    rows, width = sum(segments), heads * head_dim

    def numbers(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator, device=device) * scale).to(dtype)

    if layout == "fused":
        qkv = list(numbers(rows, tokens, 3 * width).split(width, dim=-1))
    elif layout == "tokens":
        qkv = [numbers(tokens, rows, width).transpose(0, 1) for _ in range(3)]
    elif layout == "unaligned":
        qkv = [numbers(rows, tokens, width + 1)[..., 1:] for _ in range(3)]
    else:
        qkv = [numbers(rows, tokens, width) for _ in range(3)]
    lengths = torch.tensor(list(segments), device=device)
    end = lengths.cumsum(0)
    begin = (end - lengths).repeat_interleave(lengths).int()
    alive = torch.rand((rows, tokens), generator=generator, device=device) >= dead
    return Problem(*qkv, begin, end.repeat_interleave(lengths).int(), alive, heads)


@dataclass(frozen=True)
class Answer:
    """float64 [rows, tokens, heads * head_dim]: the output, and the largest error a right kernel can make."""

    output: Tensor
    bound: Tensor


def answer(problem: Problem, *, tf32: bool = False) -> Answer:
    """Dense attention in float64 under the segments' mask.

    The bound follows the arithmetic: inputs rounded to tf32 where that is allowed, scores summed in float32,
    weights rounded to the type that is multiplied, sums of them in float32, the result rounded once. Rows
    alone in their segment, and dead rows, must be exact.
    """
    dtype = problem.query.dtype
    u32, u = 2.0**-24, UNIT_ROUNDOFF[dtype]
    query, key, value = (_by_head(x, problem.heads) for x in (problem.query, problem.key, problem.value))
    head_dim = query.shape[-1]
    begin, end = problem.segment_begin.long(), problem.segment_end.long()
    same = begin[:, None] == begin[None, :]
    allowed = (same[None] & problem.key_mask.T[:, None, :])[:, None]
    scores = (query @ key.transpose(-1, -2)).masked_fill(~allowed, -torch.inf)
    magnitude = (query.abs() @ key.abs().transpose(-1, -2)).masked_fill(~allowed, 0).amax(-1, keepdim=True)
    largest = scores.amax(-1, keepdim=True)
    weights = torch.nan_to_num(torch.softmax(scores, -1))
    output = weights @ value
    distance = (largest - scores).masked_fill(~allowed, 0)
    counts = allowed.sum(-1, keepdim=True)
    inputs = TF32_ROUNDOFF if tf32 else 0.0
    weight = TF32_ROUNDOFF if tf32 else 0.0 if dtype == torch.float32 else u
    product = 2 * inputs + inputs**2
    of_scores = 2 * (head_dim * u32 + product) * magnitude  # of a score and of the largest
    relative = torch.expm1(of_scores + inputs + weight) + 3 * u32 * distance + 2.0**-21 + (counts + 8) * u32
    error = weights * relative
    bound = error @ value.abs() + output.abs() * error.sum(-1, keepdim=True) + u * output.abs()
    bound = bound + (2.0**-24 if dtype == torch.float16 else 2.0**-126)
    bound = bound.masked_fill((end - begin == 1)[None, None, :, None], 0)
    dead = ~problem.key_mask.T[:, None, :, None]
    return Answer(_by_row(output.masked_fill(dead, 0)), _by_row(bound.masked_fill(dead, 0)))


def share_of_bound(got: Tensor, right: Answer) -> float:
    """The largest error as a share of its bound: right up to 1; infinite for a NaN or where 0 is due."""
    error = (got.double() - right.output).abs()
    share = torch.where(error == 0, 0, error / right.bound)
    return float(torch.nan_to_num(share, nan=torch.inf, posinf=torch.inf).max())


def _by_head(x: Tensor, heads: int) -> Tensor:
    """[rows, tokens, heads * dim] -> float64 [tokens, heads, rows, dim]."""
    return x.double().unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)


def _by_row(x: Tensor) -> Tensor:
    return x.permute(2, 0, 1, 3).flatten(-2)
