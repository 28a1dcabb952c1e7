"""Upstream with the operands of its products rounded to 8 bits: what an int8 graph is compared with."""

from __future__ import annotations

import copy

import torch
from chronos.chronos2 import Chronos2Model
from torch import Tensor, nn

from chronos_export.graph.int8 import LEVELS, TINY, round_columns


def in_int8(model: Chronos2Model) -> Chronos2Model:
    """A copy of an upstream model that rounds the operands of the same products to 8 bits.

    Args:
        model: The model, float32, on the CPU.
    """
    coarse = copy.deepcopy(model)
    for module in (*coarse.encoder.modules(), coarse.input_patch_embedding.output_layer):
        if isinstance(module, nn.Linear):
            rounded, scale = round_columns(module.weight.detach().T.numpy())
            module.weight.data = torch.from_numpy((rounded * scale).T.copy())
            module.register_forward_pre_hook(_round_tokens)
    return coarse


def _round_tokens(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    (x,) = inputs
    scale = x.abs().amax(dim=-1, keepdim=True).clamp(min=TINY) / LEVELS
    return (x / scale).round() * scale
