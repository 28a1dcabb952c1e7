"""What surrounds the layers: patches, missing values, scaling, rotary positions.

Source: chronos-forecasting 2.3.2: chronos_bolt.py, InstanceNorm and Patch; chronos2/layers.py,
Chronos2RotaryEmbedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE_OF_CONSTANT = 1e-5  # upstream's InstanceNorm.eps


def left_pad(x: Tensor, patch: int) -> Tensor:
    """Pad [R, T] with NaN on the left to whole patches."""
    return torch.cat([_nan_to_whole_patches(x, patch), x], dim=1)


def right_pad(x: Tensor, patch: int) -> Tensor:
    """Pad [R, H] with NaN on the right to whole patches."""
    return torch.cat([x, _nan_to_whole_patches(x, patch)], dim=1)


def _nan_to_whole_patches(x: Tensor, patch: int) -> Tensor:
    """NaN for the steps that [R, steps] lacks."""
    return x.new_full((x.shape[0], -x.shape[1] % patch), torch.nan)


def split_missing(x: Tensor) -> tuple[Tensor, Tensor]:
    """NaN-marked values to (values with 0 in the gaps, 1.0 where present)."""
    missing = torch.isnan(x)
    return torch.where(missing, 0.0, x), (~missing).to(x.dtype)


def location_and_scale(x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population deviation of the observed values of each row, [R, 1] each.

    No observation gives (0, 1), a constant row a scale of 1e-5, and what overflows the largest number there
    is, all as upstream's InstanceNorm. The mean of what is left takes back the rounding of the sum, which
    depends on the order a runtime adds in: on a high level, one may be off by a tenth of the deviation.
    """
    count = observed.sum(1, keepdim=True)
    divisor = count.clamp(min=1.0)
    mean = x.sum(1, keepdim=True) / divisor
    closer = mean + ((x - mean) * observed).sum(1, keepdim=True) / divisor
    loc = torch.where(closer.abs() < torch.finfo(x.dtype).max, closer, mean.nan_to_num())
    variance = ((x - loc) * observed).square().sum(1, keepdim=True) / divisor
    scale = variance.sqrt().nan_to_num()
    scale = torch.where(scale == 0, SCALE_OF_CONSTANT, scale)
    return loc, torch.where(count == 0, 1.0, scale)


def arcsinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine from log and sqrt, as ONNX Runtime's CUDA provider has no Asinh.

    From 1e9 on, sqrt(x^2 + 1) is x to the last bit while x^2 may overflow, so larger values add a logarithm.
    """
    size = x.abs()
    inner = size.clamp(max=1e9)
    return x.sign() * (
        torch.log(inner + torch.sqrt(inner * inner + 1.0)) + torch.log(size.clamp(min=1e9) / 1e9)
    )


def sinh(x: Tensor) -> Tensor:
    """Hyperbolic sine from exp, as ONNX Runtime's CUDA provider has no Sinh."""
    return (torch.exp(x) - torch.exp(-x)) * 0.5


def rope_tables(tokens: int, head_dim: int, theta: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines [tokens, head_dim] of positions 0 .. tokens - 1, for all layers at once."""
    wide = torch.promote_types(like.dtype, torch.float32)
    exponent = torch.arange(0, head_dim, 2, device=like.device, dtype=torch.float32) / head_dim
    frequency = (1.0 / theta**exponent).to(wide)
    angle = torch.arange(tokens, device=like.device, dtype=wide)[:, None] * frequency
    cos, sin = angle.cos().to(like.dtype), angle.sin().to(like.dtype)
    return torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to [..., tokens, head_dim]; `sin` carries the sign of the turned half."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat([x[..., half:], x[..., :half]], dim=-1) * sin
