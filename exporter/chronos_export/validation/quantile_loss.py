"""What rounding costs the forecasts of real series: a narrow type is offered where that is next to nothing.

An error of a tenth of a row's spread says little about a forecast that is uncertain by more than that. The
quantile loss against what really happened does.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from statistics import fmean
from typing import Any

import numpy as np
from chronos import Chronos2Pipeline
from numpy.typing import NDArray

from chronos_export.errors import AccuracyError
from chronos_export.validation import real_series as demo_data

LEVELS = tuple(round(0.1 * step, 1) for step in range(1, 10))
WINDOWS = 5
LARGEST_CHANGE = 0.005
Array = NDArray[np.float64]


@dataclass(frozen=True)
class LossChange:
    """The quantile loss of one runtime beside upstream's.

    Attributes:
        runner: Name of the runtime.
        upstream: Data set -> loss of upstream in float32.
        ours: Data set -> loss of the runtime.
    """

    runner: str
    upstream: dict[str, float]
    ours: dict[str, float]

    @property
    def change(self) -> float:
        """Geometric mean over the data sets of ours over upstream's, minus 1."""
        return exp(fmean(log(self.ours[name] / self.upstream[name]) for name in self.upstream)) - 1

    @property
    def is_small(self) -> bool:
        """Whether it moved by less than half a percent, for better or worse."""
        return abs(self.change) < LARGEST_CHANGE

    @property
    def problem(self) -> str:
        """What is wrong if it is not small."""
        return f"the quantile loss of {self.runner} on real series moves by {self.change:+.2%}"

    def summary(self) -> dict[str, Any]:
        """What the manifest records: the change of each data set, and of all."""
        each = {name: self.ours[name] / self.upstream[name] - 1 for name in self.upstream}
        return {"runner": self.runner, "change": self.change, **each}


def require_small(changes: tuple[LossChange, ...], dtype: str) -> None:
    """Raise an AccuracyError where a loss moved by half a percent or more, for better or worse."""
    for found in changes:
        if not found.is_small:
            raise AccuracyError(
                f"{dtype} moves the quantile loss of {found.runner} on real series by {found.change:+.2%}",
                allowed=f"less than {LARGEST_CHANGE:.1%}",
                fix="chronos-export --dtype float32 ...",
            )


def losses(pipeline: Chronos2Pipeline) -> dict[str, float]:
    """Data set -> weighted quantile loss, the mean over its last windows."""
    return {name: _loss(pipeline, demo_data.load(name)) for name in demo_data.NAMES}


def _loss(pipeline: Chronos2Pipeline, data: demo_data.RealData) -> float:
    steps = min(data.horizon, pipeline.max_output_patches * pipeline.model_output_patch_size)
    found = []
    for window in range(1, WINDOWS + 1):
        past, future = data.hold_out(window)
        history, actual = (part[list(data.targets)].to_numpy().T for part in (past, future))
        quantiles, _ = pipeline.predict_quantiles(
            [{"target": history}], prediction_length=steps, quantile_levels=list(LEVELS)
        )
        forecast = np.asarray(quantiles[0], dtype=np.float64)
        found.append(weighted_quantile_loss(forecast, actual[:, :steps]))
    return fmean(found)


def weighted_quantile_loss(quantiles: Array, actual: Array) -> float:
    """Mean quantile loss, twice, over the mean absolute value; the mean over the targets.

    Args:
        quantiles: [targets, steps, levels], at `LEVELS`.
        actual: [targets, steps], NaN = missing.
    """
    levels = np.array(LEVELS)
    miss = actual[..., None] - quantiles
    loss = 2 * np.maximum(levels * miss, (levels - 1) * miss).mean(axis=2)
    return float(np.mean(np.nanmean(loss, axis=1) / np.nanmean(np.abs(actual), axis=1)))
