"""Upstream's model in the sizes of amazon/chronos-2, with random weights: nothing has to be fetched."""

from __future__ import annotations

from typing import Any

import torch
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig

from chronos_export.checkpoint.quiet import quiet

SIZES = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
CHRONOS_CONFIG = {
    "context_length": 8192,
    "input_patch_size": 16,
    "input_patch_stride": 16,
    "output_patch_size": 16,
    "max_output_patches": 64,
    "quantiles": [0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99],
    "use_reg_token": True,
    "use_arcsinh": True,
    "time_encoding_scale": 8192,
}


def full_config(**changes: Any) -> Chronos2CoreConfig:
    """Return amazon/chronos-2's configuration.

    Args:
        changes: Sizes that differ from it, as `num_layers=2`.
    """
    return Chronos2CoreConfig(
        **{**SIZES, **changes},
        architectures=["Chronos2Model"],
        chronos_pipeline_class="Chronos2Pipeline",
        chronos_config=CHRONOS_CONFIG,
    )


@torch.no_grad()
def random_model(config: Chronos2CoreConfig) -> Chronos2Model:
    """Return upstream's model with random weights, the same on every call; float32, in eval mode.

    Activations and scores are near 1. As upstream draws its weights, attention would not matter.
    """
    torch.manual_seed(0)
    with quiet():
        model = Chronos2Model(config).eval()
    for name, weight in model.named_parameters():
        if "layer_norm" in name:
            weight.fill_(1.0)
        elif weight.ndim == 2:
            fan_in = weight.shape[1] * (config.d_kv if ".q." in name else 1)
            weight.normal_(std=fan_in**-0.5)
    return model
