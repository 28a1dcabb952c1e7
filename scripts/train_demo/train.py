"""Train the demo checkpoint with upstream's own `fit`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig
from transformers.trainer_callback import TrainerCallback

from .synthetic import pool

PATCH = 16
QUANTILES = [0.01, *(round(0.05 * step, 2) for step in range(1, 20)), 0.99]


@dataclass(frozen=True)
class Recipe:
    """Everything the checkpoint depends on, besides the versions of torch and upstream.

    Attributes:
        tokens: Tokens a batch; its rows follow from the window drawn.
        tasks: Size of the pool of synthetic tasks.
    """

    seed: int = 2026
    steps: int = 2400
    learning_rate: float = 2e-3
    tasks: int = 20_000
    tokens: int = 2048
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
            "context_length": 2048,
            "input_patch_size": PATCH,
            "input_patch_stride": PATCH,
            "output_patch_size": PATCH,
            "max_output_patches": 64,
            "quantiles": QUANTILES,
            "time_encoding_scale": 2048,
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


class VaryWindow(TrainerCallback):
    """Draws a new context length, horizon and row count before each batch.

    `fit` keeps one window for the whole training, and a model trained so is poor at any other. Rows shrink as
    windows grow, so that a step costs the same; series much shorter than the window are passed over, for they
    would be mostly padding.
    """

    def __init__(self, tokens: int, seed: int) -> None:
        self.tokens = tokens
        self.rng = np.random.default_rng(seed)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.dataset = kwargs["train_dataloader"].dataset

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        context = int(math.exp(self.rng.uniform(math.log(3), math.log(129))))
        horizon = int(math.exp(self.rng.uniform(0.0, math.log(6 if self.rng.random() < 0.9 else 65))))
        data = self.dataset
        data.context_length = context * PATCH
        data.min_past = data.context_length * 3 // 4
        data.prediction_length = horizon * PATCH
        data.num_output_patches = horizon
        data.min_length = data.min_past + data.prediction_length
        data.batch_size = min(max(8, self.tokens // (context + 1 + horizon)), 96)


def train(recipe: Recipe, folder: Path, log_steps: int = 100) -> Chronos2Pipeline:
    """Train as the recipe says; upstream's `fit` writes `checkpoint/` under `folder`."""
    trained: Chronos2Pipeline = untrained(recipe).fit(
        pool(recipe.seed, recipe.tasks),
        prediction_length=PATCH,
        min_past=PATCH,
        context_length=2048,
        learning_rate=recipe.learning_rate,
        num_steps=recipe.steps,
        batch_size=256,
        output_dir=folder,
        finetuned_ckpt_name="checkpoint",
        callbacks=[VaryWindow(recipe.tokens, recipe.seed)],
        seed=recipe.seed,
        warmup_steps=min(200, recipe.steps // 10),
        weight_decay=0.01,
        adam_beta2=0.98,
        logging_steps=log_steps,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    return trained
