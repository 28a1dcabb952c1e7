"""Chronos-2 in sorted-segment form: tensors in, tensors out.

Rows are sorted by group once at the entry and put back once at the exit; every layer in between works on
sorted rows and group attention runs inside segments. Missing values become (value, mask) pairs at the entry,
so no NaN travels through the graph. In the last block only the output tokens are computed, because nothing
reads the others.

Shape letters: R rows, T context length, H horizon, P context patches, N output patches, S = P + 1 + N tokens,
D d_model, Q quantiles.

Source: chronos-forecasting 2.3.2: chronos2/model.py, Chronos2Model.forward; chronos_bolt.py, InstanceNorm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chronos_export.model.group_attention import group_attention
from chronos_export.model.numerics import (
    arcsinh,
    left_pad,
    location_and_scale,
    right_pad,
    rope_tables,
    rotate,
    sinh,
    split_missing,
)
from chronos_export.model.sorting import Segments, sort_rows


@dataclass(frozen=True)
class Sizes:
    """What the graph needs to know of the checkpoint's configuration."""

    num_heads: int
    head_dim: int
    patch: int
    quantiles: int
    context_length: int
    time_scale: float
    rope_theta: float
    use_arcsinh: bool
    reg_token_id: int
    activation: str


class RMSNorm(nn.Module):
    """T5's layer norm: no mean subtraction, no bias; statistics in float32."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return normed.to(self.weight.dtype) * self.weight


class ResidualMLP(nn.Module):
    """act(x W_h) W_o + x W_r: the patch embedding and the quantile head."""

    def __init__(
        self, hidden: nn.Module, output: nn.Module, residual: nn.Module, act: nn.Module, dropout: nn.Module
    ):
        super().__init__()
        self.hidden, self.output, self.residual = hidden, output, residual
        self.act, self.dropout = act, dropout

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.output(self.act(self.hidden(x))))
        residual: Tensor = self.residual(x)
        return out + residual


class Attention(nn.Module):
    """What both attentions consist of; a share of `dropout` of the weights, and `after` of the result."""

    def __init__(
        self,
        q: nn.Module,
        k: nn.Module,
        v: nn.Module,
        o: nn.Module,
        num_heads: int,
        dropout: float,
        after: nn.Module,
    ) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = q, k, v, o
        self.num_heads, self.dropout, self.after = num_heads, dropout, after


class TimeAttention(Attention):
    """Attention along a row with rotary positions."""

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], alive: Tensor, first: int | torch.SymInt
    ) -> Tensor:
        """Attend from the tokens `first ..` of x [R, S, D] to its alive tokens (bool [R, S])."""
        cos, sin = rope
        query = rotate(self._heads(self.q(x[:, first:])), cos[first:], sin[first:])
        key = rotate(self._heads(self.k(x)), cos, sin)
        bias = torch.zeros_like(alive, dtype=query.dtype).masked_fill(~alive, torch.finfo(query.dtype).min)
        bias = bias[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(
            query, key, self._heads(self.v(x)), attn_mask=bias, dropout_p=dropout, scale=1.0
        )
        update: Tensor = self.after(self.o(out.transpose(1, 2).flatten(2)))
        return update

    def _heads(self, x: Tensor) -> Tensor:
        split: Tensor = x.unflatten(2, (self.num_heads, -1))
        return split.transpose(1, 2)


class GroupAttention(Attention):
    """Attention across the rows of a group, token by token, on sorted rows."""

    def forward(self, x: Tensor, segments: Segments | None, alive: Tensor) -> Tensor:
        """x [R, S, D] with alive tokens (bool [R, S]) to the update of the same shape.

        Without segments every row is a group of its own and its weight 1, so neither query nor key matters.
        """
        if segments is None:
            alone: Tensor = self.o(self.v(x).masked_fill(~alive[..., None], 0))
            return alone
        args = (self.q(x), self.k(x), self.v(x), segments.begin, segments.end, alive, self.num_heads)
        if self.training and self.dropout > 0:
            out = group_attention(*args, self.dropout, torch.randint(2**63 - 1, ()))
        else:
            out = group_attention(*args)
        update: Tensor = self.after(self.o(out))
        return update


class SingleRow(nn.Module):
    """Group attention of a group of one: its only weight is 1, so it is one matrix, W_o W_v."""

    def __init__(self, vo: nn.Module) -> None:
        super().__init__()
        self.vo = vo

    def forward(self, x: Tensor, segments: Segments | None, alive: Tensor) -> Tensor:
        out: Tensor = self.vo(x)
        return out


class FeedForward(nn.Module):
    def __init__(
        self, wi: nn.Module, wo: nn.Module, act: nn.Module, dropout: nn.Module, after: nn.Module
    ) -> None:
        super().__init__()
        self.wi, self.wo, self.act, self.dropout, self.after = wi, wo, act, dropout, after

    def forward(self, x: Tensor) -> Tensor:
        update: Tensor = self.after(self.wo(self.dropout(self.act(self.wi(x)))))
        return update


class Block(nn.Module):
    """Time attention, group attention, feed forward; each behind a norm and added to its input."""

    def __init__(
        self,
        time_norm: RMSNorm,
        time: TimeAttention,
        group_norm: RMSNorm,
        group: GroupAttention | SingleRow,
        forward_norm: RMSNorm,
        feed_forward: FeedForward,
    ) -> None:
        super().__init__()
        self.time_norm, self.time = time_norm, time
        self.group_norm, self.group = group_norm, group
        self.forward_norm, self.feed_forward = forward_norm, feed_forward

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        alive: Tensor,
        segments: Segments | None,
        first: int | torch.SymInt = 0,
    ) -> Tensor:
        """x [R, S, D] to the tokens `first ..` of the next block's input, [R, S - first, D]."""
        x = x[:, first:] + self.time(self.time_norm(x), rope, alive, first)
        x = x + self.group(self.group_norm(x), segments, alive[:, first:])
        update: Tensor = self.feed_forward(self.forward_norm(x))
        return x + update


class Encoder(nn.Module):
    """The blocks and the final norm."""

    def __init__(self, blocks: list[Block], final_norm: RMSNorm, sizes: Sizes, dropout: nn.Module) -> None:
        super().__init__()
        self.blocks, self.final_norm = nn.ModuleList(blocks), final_norm
        self.sizes, self.dropout = sizes, dropout

    def forward(
        self, x: Tensor, alive: Tensor, segments: Segments | None, first: int | torch.SymInt = 0
    ) -> Tensor:
        """Encode sorted rows.

        Args:
            x: [R, S, D], embedded tokens.
            alive: bool [R, S].
            segments: The rows' segments, or None where every row is a group of its own.
            first: The first token wanted in the result.

        Returns:
            [R, S - first, D].
        """
        rope = rope_tables(x.shape[1], self.sizes.head_dim, self.sizes.rope_theta, x)
        x = self.dropout(x)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, rope, alive, segments)
        x = last(x, rope, alive, segments, first)
        hidden: Tensor = self.dropout(self.final_norm(x))
        return hidden


class SegmentedChronos2(nn.Module):
    """The whole model: what `chronos-export` turns into ONNX."""

    def __init__(
        self,
        embedding: ResidualMLP,
        reg_token: nn.Parameter,
        encoder: Encoder,
        head: ResidualMLP,
        sizes: Sizes,
    ) -> None:
        super().__init__()
        self.embedding, self.encoder, self.head = embedding, encoder, head
        self.reg_token = reg_token
        self.sizes = sizes

    def forward(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """Forecast.

        Args:
            context: float32 [R, T], NaN = missing; only the last `context_length` steps are used.
            group_ids: int64 [R].
            future_covariates: float32 [R, H], NaN = unknown. H sets the horizon.

        Returns:
            float32 [R, Q, H rounded up to whole patches], in the units of each row.
        """
        segments = sort_rows(group_ids)
        forecast = self._forecast(context[segments.order], future_covariates[segments.order], segments)
        return forecast[segments.rank]

    def _forecast(self, context: Tensor, future: Tensor, segments: Segments | None) -> Tensor:
        s = self.sizes
        context = left_pad(context[:, -s.context_length :], s.patch)
        future = right_pad(future, s.patch)
        context, observed = split_missing(context)
        future, known = split_missing(future)
        loc, scale = location_and_scale(context, observed)
        past = context.shape[1] // s.patch
        dtype = self.reg_token.dtype
        embedded = self.embedding(self._patches(context, observed, future, known, loc, scale).to(dtype))
        reg = self.reg_token[s.reg_token_id].expand(embedded.shape[0], 1, -1)
        tokens = torch.cat([embedded[:, :past], reg, embedded[:, past:]], dim=1)
        alive_past = observed.unflatten(1, (-1, s.patch)).amax(-1) > 0
        alive_rest = torch.ones_like(tokens[:, past:, 0], dtype=torch.bool)
        alive = torch.cat([alive_past, alive_rest], dim=1)
        hidden = self.encoder(tokens, alive, segments, first=past + 1)
        out: Tensor = self.head(hidden).to(torch.promote_types(dtype, torch.float32))
        out = out.unflatten(2, (s.quantiles, s.patch)).transpose(1, 2).flatten(2)
        if s.use_arcsinh:
            out = sinh(out)
        return out * scale[:, None] + loc[:, None]

    def _patches(
        self, context: Tensor, observed: Tensor, future: Tensor, known: Tensor, loc: Tensor, scale: Tensor
    ) -> Tensor:
        """All patches [R, P + N, 48]: per patch its time encoding, its normalized values, its mask."""
        s = self.sizes
        present = torch.cat([observed, known], dim=1)
        x = (torch.cat([context, future], dim=1) - loc) / scale
        if s.use_arcsinh:
            x = arcsinh(x)
        x = torch.where(present > 0, x, 0.0)
        time = torch.arange(x.shape[1], device=x.device, dtype=x.dtype) - context.shape[1]
        time = (time / s.time_scale).expand_as(x)
        return torch.cat([part.unflatten(1, (-1, s.patch)) for part in (time, x, present)], dim=2)


class UnivariateChronos2(SegmentedChronos2):
    """The same model for rows that are groups of their own: nothing to sort, no group attention."""

    def forward(self, context: Tensor, future_covariates: Tensor) -> Tensor:  # type: ignore[override]
        """As `SegmentedChronos2.forward` with distinct group ids."""
        return self._forecast(context, future_covariates, None)
