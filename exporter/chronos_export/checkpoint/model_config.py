"""What defines a Chronos-2 model: the entries of config.json that upstream's forward depends on.

Upstream's config class takes anything and keeps it. Here each entry has a type and bounds, and nothing else
is handed on: not to upstream, not to the manifest.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Literal

from chronos_export.untrusted.records import Between, Holds, Matches

Size = Annotated[int, Between(1, 2**16)]
Layers = Annotated[int, Between(1, 2**10)]
Steps = Annotated[int, Between(1, 2**16)]  # eight times what amazon/chronos-2 was trained for
Share = Annotated[float, Between(0, 1)]
Even = Annotated[int, Between(2, 2**16), Holds(lambda size: size % 2 == 0, "an even number")]
Activation = Annotated[str, Matches(r"[a-z_0-9]+", "the name of an activation")]


def _rise(levels: tuple[float, ...]) -> bool:
    return levels[0] > 0 and levels[-1] < 1 and all(low < high for low, high in itertools.pairwise(levels))


Levels = Annotated[
    tuple[float, ...],
    Between(1, 999),
    Holds(_rise, "levels between 0 and 1, each larger than the one before"),
]


@dataclass(frozen=True)
class ForecastConfig:
    """Upstream's `chronos_config`, in time steps. A time encoding scale of 0 is the context length."""

    context_length: Steps
    input_patch_size: Size
    input_patch_stride: Size
    output_patch_size: Size
    quantiles: Levels
    max_output_patches: Annotated[int, Between(1, 2**12)] = 1
    time_encoding_scale: Annotated[int, Between(1, 2**31)] = 0
    use_arcsinh: bool = False
    use_reg_token: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of a model; defaults are upstream's. No `dense_act_fn` is `feed_forward_proj`."""

    chronos_config: ForecastConfig
    d_model: Size = 512
    d_kv: Even = 64
    d_ff: Annotated[int, Between(1, 2**20)] = 2048
    num_layers: Layers = 6
    num_heads: Size = 8
    dropout_rate: Share = 0.1
    layer_norm_epsilon: Annotated[float, Between(1e-12, 1)] = 1e-6
    feed_forward_proj: Activation = "relu"
    dense_act_fn: Activation = ""
    is_gated_act: Literal[False] = False
    rope_theta: Annotated[float, Between(1, 1e12)] = 10000.0
