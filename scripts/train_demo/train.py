"""Train the demo checkpoint: upstream's model and loss, and batches drawn as we go."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig
from torch.nn.attention import SDPBackend, sdpa_kernel

from .synthetic import Batch, Pool

PATCH = 16
QUANTILES = [0.01, *(round(0.05 * step, 2) for step in range(1, 20)), 0.99]
SHORTEST = 3  # patches of context
LOG_STEPS = 100


@dataclass(frozen=True)
class Recipe:
    """Everything the checkpoint depends on, besides the versions of torch and upstream.

    Attributes:
        tokens: Tokens a batch; its rows follow from the window drawn.
        series: Size of the pool of synthetic series.
        longest: Patches of the longest context.
        outputs: Patches of the longest horizon.
        matrix_rate: Peak learning rate of the matrices inside the layers (Muon).
        other_rate: Peak learning rate of all other weights (AdamW).
    """

    seed: int = 2026
    steps: int = 4000
    tokens: int = 2048
    series: int = 16_000
    longest: int = 32
    outputs: int = 4
    matrix_rate: float = 3e-3
    other_rate: float = 2e-3
    warmup: int = 50
    d_model: int = 128
    d_ff: int = 384
    layers: int = 3
    heads: int = 2


def untrained(recipe: Recipe) -> Chronos2Pipeline:
    """A small Chronos-2 with random weights."""
    torch.manual_seed(recipe.seed)
    config = Chronos2CoreConfig(
        d_model=recipe.d_model,
        d_kv=64,
        d_ff=recipe.d_ff,
        num_layers=recipe.layers,
        num_heads=recipe.heads,
        dropout_rate=0.0,
        architectures=["Chronos2Model"],
        chronos_pipeline_class="Chronos2Pipeline",
        chronos_config={
            "context_length": recipe.longest * PATCH,
            "input_patch_size": PATCH,
            "input_patch_stride": PATCH,
            "output_patch_size": PATCH,
            "max_output_patches": 32,  # upstream unrolls no horizon that is longer than the context
            "quantiles": QUANTILES,
            "time_encoding_scale": recipe.longest * PATCH,
            "use_arcsinh": True,
            "use_reg_token": True,
        },
    )
    model = Chronos2Model(config)
    initialise(model)
    return Chronos2Pipeline(model)


@torch.no_grad()
def initialise(model: Chronos2Model) -> None:
    """Draw weights that keep activations near 1 and first forecasts near 0.

    Upstream scales a weight by its fan-in, but under transformers 5 the base class then draws every matrix
    anew, all with one deviation.
    """
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            weight.fill_(1.0 if "layer_norm" in name else 0.0)
            continue
        deviation = 1.0 if name.startswith("shared") else weight.shape[1] ** -0.5
        if ".q." in name:  # scores are not divided by the root of the head size
            deviation *= model.config.d_kv**-0.5
        if name.startswith("output_patch_embedding"):
            deviation *= 0.3
        weight.normal_(0.0, deviation)


def optimizers(model: Chronos2Model, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for the ends of the model and its vectors, Muon for the matrices inside its layers."""
    inner, other = [], []
    for name, weight in model.named_parameters():
        (inner if name.startswith("encoder") and weight.ndim == 2 else other).append(weight)
    return [
        torch.optim.AdamW(other, recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.01),
        torch.optim.Muon(inner, recipe.matrix_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
    ]


def window(rng: np.random.Generator, recipe: Recipe) -> tuple[int, int]:
    """Patches of context and of horizon for the next batch."""
    context = int(math.exp(rng.uniform(math.log(SHORTEST), math.log(recipe.longest + 1))))
    return context, int(rng.integers(1, recipe.outputs + 1))


def loss_of(model: Chronos2Model, batch: Batch) -> torch.Tensor:
    """Upstream's quantile loss, a mean over the rows that have a target; matrix products in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):  # half the time of the default
        loss = model(**vars(batch)).loss
    targets = (~torch.isnan(batch.future_target)).any(dim=1).float().mean()
    return loss / targets / len(QUANTILES)


def train(recipe: Recipe) -> Chronos2Pipeline:
    """Train as the recipe says."""
    pipeline = untrained(recipe)
    model = pipeline.model.train()
    pool = Pool(recipe.seed, recipe.series, (recipe.longest + recipe.outputs) * PATCH + 64)
    rng = np.random.default_rng(recipe.seed)
    steppers = optimizers(model, recipe)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: rate_at(step, recipe)) for stepper in steppers
    ]
    losses, begin = [], time.perf_counter()
    for step in range(1, recipe.steps + 1):
        context, horizon = window(rng, recipe)
        rows = recipe.tokens // (context + 1 + horizon)
        loss = loss_of(model, pool.batch(rows, context * PATCH, horizon * PATCH, PATCH))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper, schedule in zip(steppers, schedules, strict=True):
            stepper.step()
            schedule.step()
        model.zero_grad()
        losses.append(loss.item())
        if step % LOG_STEPS == 0:
            passed = time.perf_counter() - begin
            print(f"step {step}, loss {np.mean(losses[-LOG_STEPS:]):.4f}, {passed:.0f} s", flush=True)
    model.eval()
    return pipeline


def rate_at(step: int, recipe: Recipe) -> float:
    """Share of the peak learning rate: a warmup, a plateau, a linear fall in the last two fifths."""
    return min(1.0, (step + 1) / recipe.warmup, (recipe.steps - step) / (0.4 * recipe.steps))
