"""Upstream in float64, and what its own float32 is therefore allowed: the measure of comparisons."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from torch import Tensor

from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.runtime.session import Floats, Ints
from chronos_export.validation.cases import Case
from chronos_export.validation.exact import in_float64
from chronos_export.validation.runners import upstream_forecast
from chronos_export.validation.tolerance import NOISE_FACTOR

Array = Tensor | np.ndarray[Any, Any]


@contextmanager
def sort_is_stable() -> Iterator[None]:
    """Have PyTorch keep the order of equal values, which it leaves to the processor.

    Upstream sorts samples that have weights, so its long horizons hang on which of two equal ones is first.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "sort", partial(torch.sort, stable=True))
        yield


@dataclass(frozen=True)
class _Forecast:
    quantile_preds: Tensor


class _Exact:
    """What upstream's pipeline needs of a model, answered in float64."""

    def __init__(self, model: Chronos2Model) -> None:
        self.model, self.chronos_config, self.device = in_float64(model), model.chronos_config, model.device

    def __call__(self, context: Tensor, future_covariates: Tensor | None = None, **rest: Any) -> _Forecast:
        future = None if future_covariates is None else future_covariates.double()
        out = self.model(context=context.double(), future_covariates=future, **rest)
        return _Forecast(out.quantile_preds)


class UpstreamSession:
    """Upstream as a session, in whatever type its weights are."""

    def __init__(self, model: Chronos2Model) -> None:
        self.model = model

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        case = Case("", context, group_ids, future_covariates)
        forecast: Floats = upstream_forecast(self.model, case, torch.float32).float().numpy()
        return forecast

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        return self.run(context, np.arange(len(context)), future_covariates)


def exact_pipeline(upstream: Chronos2Pipeline) -> Chronos2Pipeline:
    """Upstream's pipeline over its own model in float64; unrolling carries float64 along."""
    return Chronos2Pipeline(model=_Exact(upstream.model))


def assert_as_upstream(found: list[Any], upstream: list[Any], exact: list[Any]) -> float:
    """Each series within 10 times upstream's own float32 error on it.

    Args:
        found: Forecasts to judge, one array a series.
        upstream: Upstream's, in float32.
        exact: Upstream's, in float64.

    Returns:
        The largest error in units of what its series is allowed.
    """
    assert len(found) == len(upstream) == len(exact) > 0
    worst = 0.0
    for mine, theirs, truth in zip(found, upstream, exact, strict=True):
        mine, theirs, truth = (np.asarray(values, dtype=np.float64) for values in (mine, theirs, truth))
        assert mine.shape == theirs.shape
        assert np.isfinite(mine).all()
        noise = max(np.abs(theirs - truth).max(), np.finfo(np.float32).eps * np.abs(truth).max())
        worst = max(worst, float(np.abs(mine - theirs).max() / (NOISE_FACTOR * noise)))
    assert worst <= 1, f"{worst:.3g} times what is allowed"
    return worst


def assert_forecast_as_upstream(
    found: Array, upstream: Chronos2Model, context: Array, group_ids: Array
) -> None:
    """Each row of a forecast without covariates, [rows, quantiles, steps], as `assert_as_upstream`."""
    context, group_ids = torch.as_tensor(context), torch.as_tensor(group_ids)
    call = {"group_ids": group_ids, "num_output_patches": found.shape[2] // 16}
    with torch.no_grad():
        near = upstream(context=context, **call).quantile_preds
        true = in_float64(upstream)(context=context.double(), **call).quantile_preds
    assert_as_upstream(list(found), list(near), list(true))


def assert_graph_as_upstream(graph: Path, checkpoint: Path) -> None:
    """Rows of groups of four, two and one, some of them with gaps, on onnxruntime."""
    weights = graph.with_name("weights.bin")
    if weights.is_symlink():  # onnxruntime follows no link
        shutil.copy(weights.resolve(), weights.with_name("copy"))
        weights.with_name("copy").replace(weights)
    context = torch.randn(7, 40, generator=torch.Generator().manual_seed(0))
    context[2, :30] = torch.nan
    ids, future = torch.tensor([4, 4, -1, 4, 9, -1, 4]), torch.full((7, 16), torch.nan)
    feed = {"context": context.numpy(), "group_ids": ids.numpy(), "future_covariates": future.numpy()}
    (found,) = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, feed)
    upstream = load_checkpoint(str(checkpoint)).pipeline.model
    assert_forecast_as_upstream(found, upstream, context, ids)
