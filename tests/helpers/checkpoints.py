"""Upstream Chronos-2 checkpoints with random weights, made on the spot and the same on every run.

Upstream's own initialization leaves activations near zero, where every attention is right. Here each
matrix is scaled by its fan-in, so that scores, attention outputs and forecasts are all of order one
and a wrong mask, a swapped weight or a missing term moves the forecast by far more than rounding does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig
from safetensors.torch import load_file, save_file

from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.checkpoint.quiet import quiet
from chronos_export.errors import ChronosExportError

TWENTY_ONE = [0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99]
THIRTEEN = [0.01, 0.05, *(round(0.1 * i, 1) for i in range(1, 10)), 0.95, 0.99]

SIZES: dict[str, dict[str, Any]] = {
    "toy": {"d_model": 6, "d_kv": 4, "d_ff": 8, "num_layers": 2, "num_heads": 4},
    "small": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 3, "num_heads": 4},
    "quantiles13": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 3},
    "full": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
}


def make_config(size: str = "toy", **chronos_config: Any) -> Chronos2CoreConfig:
    """The upstream config of a size; keyword arguments override entries of its `chronos_config`."""
    return Chronos2CoreConfig(
        **SIZES[size],
        architectures=["Chronos2Model"],
        chronos_pipeline_class="Chronos2Pipeline",
        chronos_config={
            "context_length": 8192,
            "input_patch_size": 16,
            "input_patch_stride": 16,
            "max_output_patches": 64,
            "output_patch_size": 16,
            "quantiles": THIRTEEN if size == "quantiles13" else TWENTY_ONE,
            "time_encoding_scale": 8192,
            "use_arcsinh": True,
            "use_reg_token": True,
        }
        | chronos_config,
    )


def make_model(size: str = "toy", seed: int = 0, **chronos_config: Any) -> Chronos2Model:
    """An upstream model in eval mode whose weights depend on `size` and `seed` alone."""
    model = Chronos2Model(make_config(size, **chronos_config)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(_random_weight(name, weight.shape, model.config.d_kv, generator))
    return model


def make_ill_conditioned(seed: int, gain: float = 4.0) -> Chronos2Model:
    """A small model near its own limits whose matrices are larger: rounding moves its forecasts at random."""
    model = make_model("small", seed, context_length=256, max_output_patches=8)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and not name.startswith(("shared", "output_patch_embedding")):
                weight *= gain
    return model


def make_checkpoint(folder: Path, size: str = "toy", seed: int = 0, **chronos_config: Any) -> Path:
    """Save `make_model(...)` to `folder` as upstream does (config.json, model.safetensors); returns it."""
    with quiet():
        make_model(size, seed, **chronos_config).save_pretrained(folder)
    return folder


def make_adapter(folder: Path, base: Path | str, seed: int = 1, **options: Any) -> Path:
    """Save a LoRA adapter of the checkpoint `base`, on the modules upstream's `fit` adapts, to `folder`."""
    from peft import LoraConfig, get_peft_model

    attention = [f"self_attention.{name}" for name in "qkvo"]
    modules = [*attention, "output_patch_embedding.output_layer"]
    lora = LoraConfig(**{"r": 2, "lora_alpha": 4, "target_modules": modules} | options)
    generator = torch.Generator().manual_seed(seed)
    with quiet():
        adapted = get_peft_model(Chronos2Model.from_pretrained(base), lora)
        with torch.no_grad():
            for weight in adapted.parameters():
                if weight.requires_grad:
                    weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
        adapted.save_pretrained(folder)
    return folder


def edit_weights(folder: Path, changes: dict[str, torch.Tensor | None]) -> Path:
    """Replace or add tensors of a saved checkpoint; None drops the tensor."""
    file = folder / "model.safetensors"
    tensors = {**load_file(file), **changes}
    save_file({n: t for n, t in tensors.items() if t is not None}, file, metadata={"format": "pt"})
    return folder


def edit_config(folder: Path, **changes: Any) -> Path:
    """Replace or add entries of a saved config.json; None drops the entry."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def refusal(source: Path | str, revision: str | None = None) -> ChronosExportError:
    """The error with which a checkpoint is refused."""
    with pytest.raises(ChronosExportError) as caught:
        load_checkpoint(str(source), revision)
    return caught.value


def forecast(pipeline: Chronos2Pipeline) -> torch.Tensor:
    """What a pipeline forecasts for four rows in two groups."""
    context = torch.randn(4, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return pipeline.model(context=context, group_ids=torch.tensor([0, 0, 1, 1])).quantile_preds


def _random_weight(name: str, shape: torch.Size, d_kv: int, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(shape, generator=generator)
    if "layer_norm" in name:
        return 1 + 0.2 * noise
    if name.endswith("bias"):
        return 0.2 * noise
    if "shared" in name:
        return noise
    scaled = noise * shape[-1] ** -0.5
    if name.endswith("attention.q.weight"):  # scores are not divided by sqrt(d_kv) later
        return scaled * 2 * d_kv**-0.5
    return scaled * (0.5 if "output_patch_embedding" in name else 1.5)  # the output goes through sinh
