"""Train the demo checkpoint with upstream's own `fit`, in stages of growing context."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.trainer_callback import TrainerCallback

from .synthetic import Pool, Tasks

PATCH = 16
QUANTILES = [0.01, *(round(0.05 * step, 2) for step in range(1, 20)), 0.99]
SHORTEST = 3  # patches of context
TASKS = 10_000_000
WARMUP = 50
MAX_NORM = 20.0  # upstream's loss is a sum over the quantiles


@dataclass(frozen=True)
class Stage:
    """One call of `fit`.

    Attributes:
        context: Patches of the longest context.
        outputs: Patches to forecast.
        rows: Rows a batch.
        steps: Batches.
        schedule: As transformers names it.
    """

    context: int
    outputs: int
    rows: int
    steps: int
    schedule: str = "constant_with_warmup"


@dataclass(frozen=True)
class Recipe:
    """Everything the checkpoint depends on, besides the versions of torch, transformers and upstream.

    Attributes:
        series: Size of the pool of synthetic series.
        longest: Patches of the longest context.
        stages: Calls of `fit`, in their order.
        matrix_rate: Peak learning rate of the matrices inside the layers (Muon).
        other_rate: Peak learning rate of all other weights (AdamW).
    """

    seed: int = 2026
    series: int = 16_000
    longest: int = 32
    stages: tuple[Stage, ...] = (
        Stage(context=6, outputs=1, rows=256, steps=800),
        Stage(context=16, outputs=2, rows=128, steps=900),
        Stage(context=32, outputs=4, rows=64, steps=2600, schedule="linear"),
    )
    matrix_rate: float = 3e-3
    other_rate: float = 2e-3
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


class Muon(TrainerCallback):
    """Updates the matrices inside the encoder with Muon; what is left of the gradients is for `fit`'s AdamW.

    Args:
        rate: Learning rate for the peak of `fit`'s own, whose schedule it follows.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def on_train_begin(self, args: Any, state: Any, control: Any, **trainer: Any) -> None:
        named = trainer["model"].encoder.named_parameters()
        self.matrices = [weight for _, weight in named if weight.ndim == 2]
        self.optimizer = torch.optim.Muon(
            self.matrices, self.rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        )

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **trainer: Any) -> None:
        (group,) = self.optimizer.param_groups
        group["lr"] = self.rate * trainer["lr_scheduler"].get_last_lr()[0] / args.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()


def train(recipe: Recipe) -> Chronos2Pipeline:
    """Train with upstream's `fit`, stage after stage."""
    pipeline = untrained(recipe)
    longest = 2 * recipe.longest + max(stage.outputs for stage in recipe.stages)
    pool = Pool(recipe.seed, recipe.series, longest * PATCH)
    for number, stage in enumerate(recipe.stages):
        print(json.dumps(asdict(stage)), flush=True)
        pipeline = fit(pipeline, recipe, recipe.seed + number, stage, pool)
    return pipeline


def fit(pipeline: Chronos2Pipeline, recipe: Recipe, seed: int, stage: Stage, pool: Pool) -> Chronos2Pipeline:
    """One stage."""
    context, horizon = stage.context * PATCH, stage.outputs * PATCH
    tasks = Tasks(pool, seed, TASKS, SHORTEST * PATCH + horizon, 2 * context + horizon, horizon)
    # The MATH backend takes half the time of the default.
    with tempfile.TemporaryDirectory() as folder, sdpa_kernel(SDPBackend.MATH):
        return pipeline.fit(
            tasks,
            prediction_length=horizon,
            context_length=context,
            min_past=SHORTEST * PATCH,
            batch_size=stage.rows,
            num_steps=stage.steps,
            learning_rate=recipe.other_rate,
            callbacks=[Muon(recipe.matrix_rate)],
            output_dir=folder,
            seed=seed,
            bf16=True,
            lr_scheduler_type=stage.schedule,
            warmup_steps=WARMUP,
            max_grad_norm=MAX_NORM,
            adam_beta2=0.98,
            weight_decay=0.01,
            disable_tqdm=True,
        )
