"""What an export may be off by on a case: ten times what upstream itself loses by rounding.

An error is the difference of a forecast divided by the scale of its row, so that it means the same at 1e-6
and at 1e9. Where a row is ill-conditioned, what rounding does to it is nearly one random number, and any one
rounding of upstream may hit it by chance. So there are several: upstream as it is, and the same function with
its residual stream scaled, which the norms take out again. In float32 a row is allowed ten times its largest
error over these, or that of the case's typical row; in a narrow type, that of the whole case.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.layers import Chronos2LayerNorm
from numpy.typing import NDArray

from chronos_export.graph.precision import Precision
from chronos_export.validation.cases import Case
from chronos_export.validation.exact import LARGEST
from chronos_export.validation.int8 import in_int8
from chronos_export.validation.runners import Floats, Upstream, upstream_forecast
from chronos_export.validation.tf32 import InTf32

NOISE_FACTOR = 10.0
SCALINGS = (1.07, 1.31, 1.61, 0.83, 1.19, 0.71, 1.43)  # no powers of two: those round nothing anew
INTO_STREAM = ("shared", "input_patch_embedding.output_layer", "input_patch_embedding.residual_layer")
ONTO_STREAM = (".o.weight", ".wo.weight")


def with_scaled_stream(model: Chronos2Model, factor: float) -> Chronos2Model:
    """A copy of an upstream model: the same function, whose residual stream is `factor` times as large."""
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in scaled.named_parameters():
            if name.startswith(INTO_STREAM) or name.endswith(ONTO_STREAM):
                weight *= factor
    for module in scaled.modules():
        if isinstance(module, Chronos2LayerNorm):
            module.variance_epsilon *= factor**2
    return scaled


def in_precision(model: Chronos2Model, precision: Precision) -> Upstream:
    """Upstream rounded as candidates are: itself in float32, or a copy in a narrow type."""
    if precision.name == "tf32":
        return InTf32(model)
    if precision.is_quantized:
        return in_int8(model)
    if precision.torch_type is torch.float32:
        return model
    return copy.deepcopy(model).to(precision.torch_type)


@dataclass(frozen=True)
class Tolerance:
    """What upstream answers to a case, and how far off a candidate may be.

    Attributes:
        case: The case.
        forecast: float32 [rows, quantiles, steps], upstream's answer.
        exact: float64, the same in float64.
        loc: float64 [rows, 1, 1], what is added to each row's forecast last.
        scale: float64 [rows, 1, 1], what errors of each row are divided by.
        roundings: Upstream's answers in the type of the candidates; the first by the model as it is.
        by_row: Whether a row is allowed what upstream loses on it, not on the whole case.
    """

    case: Case
    forecast: Floats
    exact: Floats
    loc: Floats
    scale: Floats
    roundings: tuple[Floats, ...]
    by_row: bool

    def with_rounding(self, forecast: Floats) -> Tolerance:
        """As this, with one more answer of upstream's."""
        return replace(self, roundings=(*self.roundings, forecast))

    @cached_property
    def noise(self) -> Floats:
        """float64 [rows], upstream's own error in the type of the candidates."""
        noise: Floats = np.max([self._largest(np.abs(own - self.exact)) for own in self.roundings], axis=0)
        return noise

    @cached_property
    def limit(self) -> Floats:
        """float64 [rows], the error allowed; infinite where upstream overflows its own narrow type."""
        # A row that upstream happens to hit exactly is allowed what a typical row of the case is.
        common = np.median(self.noise) if self.by_row else self.noise.max()
        rounding = self._largest(np.finfo(np.float32).eps * np.abs(self.exact))
        limit = NOISE_FACTOR * np.maximum(self.noise, np.maximum(rounding, common))
        lost = np.isfinite(self.forecast) & ~np.isfinite(self.roundings[0])
        return np.where(lost.any(axis=(1, 2)), np.inf, limit)

    @cached_property
    def asked(self) -> NDArray[np.bool_]:
        """bool [rows, quantiles, steps], where neither the error allowed nor the scale overflows float32."""
        room = np.where(np.isfinite(self.limit), self.limit, 1)[:, None, None] * self.scale
        largest = np.maximum(np.abs(self.forecast), np.abs(self.forecast - self.loc))
        return largest + room < LARGEST

    @cached_property
    def decibels(self) -> float:
        """Signal over noise of upstream's own answers, as Polygraphy computes it; not finite on overflow."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            noise = np.max([np.square(own - self.exact).mean() for own in self.roundings])
            return float(10 * np.log10(np.square(self.exact).mean() / noise))

    def _largest(self, error: Floats) -> Floats:
        """The largest error of each row in its scale, where neither it nor upstream overflows."""
        seen = np.isfinite(self.forecast) & np.isfinite(error)
        largest: Floats = np.where(seen, error / self.scale, 0).max(axis=(1, 2))
        return largest


def tolerance(exact: Chronos2Model, narrow: Upstream | None, case: Case, forecast: Floats) -> Tolerance:
    """What a case allows by one rounding.

    Args:
        exact: Upstream in float64.
        narrow: Upstream in the type of the candidates, or None in float32.
        case: The case.
        forecast: float32 [rows, quantiles, steps], upstream's answer to it.
    """
    context = torch.from_numpy(case.context)[:, -exact.chronos_config.context_length :]
    _, statistics = exact.instance_norm(context)
    loc, scale = (statistic[..., None].numpy() for statistic in statistics)
    own = forecast if narrow is None else upstream_forecast(narrow, case, torch.float32).numpy()
    return Tolerance(
        case=case,
        forecast=forecast,
        exact=upstream_forecast(exact, case, torch.float64).numpy(),
        loc=loc,
        scale=scale,
        roundings=(own,),
        by_row=narrow is None,
    )
