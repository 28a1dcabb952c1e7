"""Upstream's model in float64 throughout, to see how exact its own float32 is.

`model.double()` alone leaves float32 in three places, where upstream casts on purpose: the instance norm, the
statistics of the layer norms and the rotary tables.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.layers import Chronos2LayerNorm, Chronos2RotaryEmbedding
from torch import Tensor, nn

LARGEST = torch.finfo(torch.float32).max


def in_float64(model: Chronos2Model) -> Chronos2Model:
    """A copy of an upstream model that computes everything in float64."""
    exact = copy.deepcopy(model).double()
    norm = model.instance_norm
    exact.instance_norm = _InstanceNorm(norm.eps, norm.use_arcsinh)
    for parent in list(exact.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Chronos2LayerNorm):
                setattr(parent, name, _LayerNorm(child.weight, child.variance_epsilon))
            elif isinstance(child, Chronos2RotaryEmbedding):
                setattr(parent, name, _RotaryEmbedding(child.inv_freq))
    return exact


class _InstanceNorm(nn.Module):
    """Source: chronos-forecasting 2.3.2, chronos_bolt.py, InstanceNorm."""

    def __init__(self, eps: float, use_arcsinh: bool) -> None:
        super().__init__()
        self.eps, self.use_arcsinh = eps, use_arcsinh

    def forward(self, x: Tensor, loc_scale: tuple[Tensor, Tensor] | None = None) -> Any:
        x = x.double()
        if loc_scale is None:
            loc = _mean(x).nan_to_num(0.0, LARGEST, -LARGEST)
            scale = _mean((x - loc).square()).sqrt().nan_to_num(1.0, LARGEST)
            loc_scale = loc, torch.where(scale == 0, self.eps, scale)
        loc, scale = loc_scale
        x = (x - loc) / scale
        return (x.asinh() if self.use_arcsinh else x), loc_scale

    def inverse(self, x: Tensor, loc_scale: tuple[Tensor, Tensor]) -> Tensor:
        loc, scale = loc_scale
        return (x.sinh() if self.use_arcsinh else x) * scale + loc


def _mean(x: Tensor) -> Tensor:
    """Of what is observed in each row; infinite where float32 cannot hold the sum, which upstream clamps."""
    total = x.nansum(-1, keepdim=True)
    return torch.where(total.abs() > LARGEST, total.sign() * torch.inf, x.nanmean(-1, keepdim=True))


class _LayerNorm(nn.Module):
    """Source: chronos-forecasting 2.3.2, chronos2/layers.py, Chronos2LayerNorm."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = weight, eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)


class _RotaryEmbedding(nn.Module):
    """Source: chronos-forecasting 2.3.2, chronos2/layers.py, Chronos2RotaryEmbedding."""

    inv_freq: Tensor

    def __init__(self, inv_freq: Tensor) -> None:
        super().__init__()
        self.register_buffer("inv_freq", inv_freq, persistent=False)

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angle = position_ids[:, :, None] * self.inv_freq
        angle = torch.cat([angle, angle], dim=-1)
        return angle.cos(), angle.sin()
