"""The model card: what the checkpoint is, how it was made, and its score as it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import exp, log
from statistics import fmean

from .score import WINDOWS, Table, as_markdown
from .train import PATCH, SHORTEST, Recipe

CARD = """---
license: apache-2.0
library_name: chronos-forecasting
pipeline_tag: time-series-forecasting
---
# The demo checkpoint

A small Chronos-2 ({parameters:,} parameters, {layers} layers, float32) to try and test `chronos-export`
without a download. For forecasts that matter use `amazon/chronos-2`. Licence: Apache-2.0.

It is trained with upstream's own `fit`, in stages of growing context, on synthetic series only: seasons,
stochastic cycles, autoregressions, walks and trends, alone (half of the rows), driven by two covariates, or
sharing two factors. Contexts of {shortest} to {longest} steps, horizons of {patch} to {horizon}. A callback
of `fit` updates the matrices inside the layers with Muon. The pipeline looks at the last {longest} steps of a
series.

    python -m scripts.train_demo               # trains it, and writes this folder
    python -m scripts.train_demo --evaluate    # scores it, and prints the table below

One thread and one seed: the same machine gives the same weights. Matrix products are in bfloat16 in training,
so another kind of processor gives slightly different ones. Recipe, lengths in patches of {patch}:

    {recipe}

## Score

Mean over the last {windows} windows of each data set, all its targets forecast together. They come with
statsmodels. MASE: mean absolute error of the median over the in-sample error of the seasonal naive forecast.
WQL: mean quantile loss at levels 0.1 to 0.9, twice, over the mean absolute value. Lower is better.
Season and horizon in steps: macrodata 4 and 8, co2 52 and 52, nile 1 and 10, elnino 12 and 12, sunspots
11 and 11. The naive forecasts carry normal intervals as wide as their errors in sample, growing with the
square root of the seasons ahead.

{table}

Ahead of the seasonal naive forecast in MASE: {mase_wins}. In WQL: {wql_wins}.
Geometric mean of demo over seasonal naive: MASE {mase:.3f}, WQL {wql:.3f}.
"""


def card(recipe: Recipe, parameters: int, table: Table) -> str:
    """The README of the checkpoint's folder."""
    return CARD.format(
        parameters=parameters,
        layers=recipe.layers,
        patch=PATCH,
        shortest=SHORTEST * PATCH,
        longest=recipe.longest * PATCH,
        horizon=max(stage.outputs for stage in recipe.stages) * PATCH,
        recipe=json.dumps(asdict(recipe)),
        windows=WINDOWS,
        table=as_markdown(table),
        mase=ratio(table, "mase"),
        wql=ratio(table, "wql"),
        mase_wins=", ".join(wins(table, "mase")) or "none",
        wql_wins=", ".join(wins(table, "wql")) or "none",
    )


def wins(table: Table, metric: str) -> list[str]:
    """The data sets where the demo is ahead of the seasonal naive."""
    return [name for name, row in table.items() if row["demo"][metric] < row["seasonal naive"][metric]]


def ratio(table: Table, metric: str) -> float:
    """Geometric mean over the data sets of the demo's score over the seasonal naive's."""
    return exp(fmean(log(row["demo"][metric] / row["seasonal naive"][metric]) for row in table.values()))
