"""Group attention as the definition has it: dense, in float64, one row at a time. And rows to try it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """Inputs of the operator, in its order.

    Attributes:
        query: [rows, tokens, heads * head_dim]; key and value likewise.
        begin: int32 [rows]; end likewise.
        alive: bool [rows, tokens].
        heads: Number of heads.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    begin: Tensor
    end: Tensor
    alive: Tensor
    heads: int

    @property
    def args(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int]:
        return self.query, self.key, self.value, self.begin, self.end, self.alive, self.heads


def make_problem(
    lengths: Sequence[int],
    tokens: int = 5,
    heads: int = 3,
    head_dim: int = 8,
    dtype: torch.dtype = torch.float32,
    dead: float = 0.3,
    seed: int = 0,
) -> Problem:
    """Segments of the given lengths, one after the other; a share of `dead` tokens, and one dead segment."""
    generator = torch.Generator().manual_seed(seed)
    rows = sum(lengths)

    def noise() -> Tensor:
        return torch.randn(rows, tokens, heads * head_dim, generator=generator, dtype=torch.float64)

    ends = torch.tensor(lengths).cumsum(0)
    repeats = torch.tensor(lengths)
    alive = torch.rand(rows, tokens, generator=generator) >= dead
    if dead:
        alive[-lengths[-1] :, 0] = False
    return Problem(
        query=(noise() * head_dim**-0.25).to(dtype),
        key=(noise() * head_dim**-0.25).to(dtype),
        value=noise().to(dtype),
        begin=(ends - repeats).repeat_interleave(repeats).int(),
        end=ends.repeat_interleave(repeats).int(),
        alive=alive,
        heads=heads,
    )


def dense(problem: Problem) -> Tensor:
    """The right answer in float64; differentiable."""
    rows, tokens, width = problem.query.shape
    q, k, v = (
        t.double().unflatten(2, (problem.heads, -1)) for t in (problem.query, problem.key, problem.value)
    )
    position = torch.arange(rows)
    together = (problem.begin[:, None] <= position) & (position < problem.end[:, None])
    seen = together[:, :, None] & problem.alive[None]  # query row, key row, token
    scores = torch.einsum("ithd,jthd->ijth", q, k).masked_fill(~seen[..., None], -torch.inf)
    weights = torch.where(seen[..., None], scores, -torch.inf).softmax(dim=1)
    weights = torch.where(seen.any(1)[:, None, :, None], weights, 0.0)  # a segment with no alive key
    out = torch.einsum("ijth,jthd->ithd", weights.nan_to_num(0.0), v).reshape(rows, tokens, width)
    return torch.where(problem.alive[..., None], out, 0.0)
