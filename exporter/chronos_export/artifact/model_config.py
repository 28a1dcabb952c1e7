"""What defines a Chronos-2 model: the entries of config.json that upstream's forward depends on.

Each has a type and bounds, in a checkpoint as in a manifest.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from chronos_export.untrusted.records import Between, Holds, Matches

LONGEST = 2**16  # time steps of a context or a horizon: eight times the context of amazon/chronos-2

Size = Annotated[int, Between(1, 2**16)]
Steps = Annotated[int, Between(1, LONGEST)]
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

    def as_entry(self) -> dict[str, Any]:
        """Return it as upstream has it, in lists."""
        return {**asdict(self), "quantiles": list(self.quantiles)}


def _short(config: ForecastConfig) -> bool:
    return config.max_output_patches * config.output_patch_size <= LONGEST


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of a model; defaults are upstream's."""

    chronos_config: Annotated[ForecastConfig, Holds(_short, f"a horizon of at most {LONGEST} time steps")]
    d_model: Size = 512
    d_kv: Even = 64
    d_ff: Annotated[int, Between(1, 2**20)] = 2048
    num_layers: Annotated[int, Between(1, 2**10)] = 6
    num_heads: Size = 8
    layer_norm_epsilon: Annotated[float, Between(1e-12, 1)] = 1e-6
    dense_act_fn: Activation = "relu"
    rope_theta: Annotated[float, Between(1, 1e12)] = 10000.0
