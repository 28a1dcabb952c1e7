"""The proof: an exported model against the untouched upstream model, case by case.

Polygraphy's Comparator runs every case over the reference and the candidates. An error is the difference of a
forecast divided by the scale of its row, so that it means the same at 1e-6 and at 1e9. What is allowed is ten
times what upstream's own float32 forecast of that row, or of the case's typical row, is away from the same
computation in float64; in a narrow type, ten times what upstream loses in that type on the whole case: one
rounding of a row says little about another.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chronos.chronos2 import Chronos2Model
from polygraphy.backend.base import BaseRunner

from chronos_export.graph.precision import PRECISIONS, Precision
from chronos_export.progress import Report, ignore, stage
from chronos_export.runtime.session import Session
from chronos_export.validation.cases import Case
from chronos_export.validation.exact import in_float64
from chronos_export.validation.int8 import in_int8
from chronos_export.validation.runners import (
    REFERENCE,
    Floats,
    SessionRunner,
    Upstream,
    UpstreamRunner,
    ask,
    quiet_polygraphy,
    save_answers,
    upstream_forecast,
)
from chronos_export.validation.tf32 import InTf32

NOISE_FACTOR = 10.0  # another rounding of the same model is up to 9.7 times as far (LOG.md)


@dataclass(frozen=True)
class CaseResult:
    """How one candidate answered one case.

    Attributes:
        case: Name of the case.
        runner: Name of the candidate.
        error: Largest scale-free error over all rows, quantiles and steps.
        error_by_quantile: The same for each quantile.
        noise: Upstream's own largest float32 error on the case.
        worst_of_limit: Largest error in units of what its row allows; above 1 is a failure.
        problem: "" or why the case fails.
    """

    case: str
    runner: str
    error: float
    error_by_quantile: tuple[float, ...]
    noise: float
    worst_of_limit: float
    problem: str


@dataclass(frozen=True)
class Verdict:
    """All results; passed when none has a problem."""

    results: tuple[CaseResult, ...]

    @property
    def passed(self) -> bool:
        return bool(self.results) and not self.failures

    @property
    def failures(self) -> tuple[CaseResult, ...]:
        return tuple(result for result in self.results if result.problem)

    def summary(self) -> dict[str, Any]:
        """What the manifest records: counts, the worst result of each runner, and what failed."""
        worst = {result.runner: result for result in sorted(self.results, key=lambda r: r.worst_of_limit)}
        return {
            "passed": self.passed,
            "cases": len({result.case for result in self.results}),
            "results": len(self.results),
            "worst": [_row(worst[runner]) for runner in sorted(worst)],
            "failures": [_row(result) for result in self.failures],
        }


def _row(result: CaseResult) -> dict[str, Any]:
    row = asdict(result)
    del row["error_by_quantile"]
    return row


@dataclass(frozen=True)
class Truth:
    """What upstream answers to a case, and how exactly.

    Attributes:
        case: The case.
        forecast: float32 [rows, quantiles, steps], upstream's answer.
        scale: float64 [rows, 1, 1], what errors of each row are divided by.
        noise: float64 [rows], upstream's own scale-free float32 error.
        limit: float64 [rows], the error allowed.
    """

    case: Case
    forecast: Floats
    scale: Floats
    noise: Floats
    limit: Floats


def validate(
    reference: Chronos2Model,
    candidates: Mapping[str, Session],
    cases: Sequence[Case],
    precision: Precision = PRECISIONS["float32"],
    report: Report = ignore,
    folder: Path | None = None,
) -> Verdict:
    """Compare candidates with upstream on every case.

    Args:
        reference: The unmodified upstream model, float32, in eval mode, loaded apart from the candidates.
        candidates: Name to session; `<name>/univariate` is reported apart.
        cases: The inputs.
        precision: What the candidates compute in; it sets what they are allowed.
        report: Told before every case.
        folder: Where to leave the inputs and upstream's answers in Polygraphy's format, and all results as
            JSON; or None.
    """
    exact, alike = in_float64(reference), _in_precision(reference, precision)
    lone = [case for case in cases if case.is_univariate]
    results: list[CaseResult] = []
    with stage("validate", report) as progress, quiet_polygraphy():
        steps = progress.counted(cases, f"{REFERENCE}, case", 0.0, 0.4)
        answers = [ask(UpstreamRunner(reference), case) for case in steps]
        answered = list(zip(cases, answers, strict=True))
        exactly = progress.counted(answered, f"{REFERENCE} in float64, case", 0.4, 0.6)
        truths = {case.name: _truth(exact, alike, case, out) for case, out in exactly}
        for number, (name, session) in enumerate(candidates.items()):
            begin, middle, end = (0.6 + 0.4 * (number + part) / len(candidates) for part in (0, 0.5, 1))
            for runner, chosen, share in (
                (SessionRunner(session, name), cases, (begin, middle)),
                (SessionRunner(session, f"{name}/univariate", univariate=True), lone, (middle, end)),
            ):
                for case in progress.counted(chosen, f"{runner.name}, case", *share):
                    results.append(_judge(truths[case.name], runner.name, _attempt(runner, case)))
        verdict = Verdict(tuple(results))
        if folder is not None:
            save_answers(folder, cases, answers)
            results_as_json = [asdict(result) for result in verdict.results]
            (folder / "results.json").write_text(json.dumps(results_as_json, indent=1))
    return verdict


def _in_precision(model: Chronos2Model, precision: Precision) -> Upstream | None:
    """Upstream in a narrow type, or None where its own float32 is what candidates are held to."""
    if precision.name == "tf32":
        return InTf32(model)
    if precision.is_quantized:
        return in_int8(model)
    if precision.torch_type is torch.float32:
        return None
    return copy.deepcopy(model).to(precision.torch_type)


def _truth(exact: Chronos2Model, alike: Upstream | None, case: Case, forecast: Floats) -> Truth:
    exact_forecast = upstream_forecast(exact, case, torch.float64).numpy()
    context = torch.from_numpy(case.context)[:, -exact.chronos_config.context_length :]
    _, (_, scale) = exact.instance_norm(context)
    scale = scale[..., None].numpy()
    own = forecast if alike is None else upstream_forecast(alike, case, torch.float32).numpy()
    noise = (np.abs(own - exact_forecast) / scale).max(axis=(1, 2))
    rounding = (np.finfo(np.float32).eps * np.abs(exact_forecast) / scale).max(axis=(1, 2))
    # Where upstream overflows its own narrow type, nothing but a finite forecast can be asked for.
    # A row that upstream happens to hit exactly is allowed what a typical row of the case is.
    finite = noise[np.isfinite(noise)] if np.isfinite(noise).any() else np.zeros(1)
    common = np.median(finite) if alike is None else finite.max()
    floor = np.maximum(rounding, common)
    limit = np.where(np.isfinite(noise), NOISE_FACTOR * np.maximum(noise, floor), np.inf)
    return Truth(case, forecast, scale, noise, limit)


def _judge(truth: Truth, runner: str, forecast: Floats | Exception) -> CaseResult:
    problem = _no_forecast(truth, forecast)
    if problem or isinstance(forecast, Exception):
        blank = (float("inf"),) * truth.forecast.shape[1]
        return CaseResult(truth.case.name, runner, float("inf"), blank, float("nan"), float("inf"), problem)
    error = np.abs(forecast.astype(np.float64) - truth.forecast) / truth.scale
    worst = float((error.max(axis=(1, 2)) / truth.limit).max())
    crossing = _crossings(forecast, truth.scale) - _crossings(truth.forecast, truth.scale)
    crossing = crossing.max(axis=(1, 2), initial=0.0)
    if not worst <= 1:  # NaN too, which is what upstream's own NaN would make of it
        problem = f"error {worst:.3g} times what its row allows"
    elif (crossing > truth.limit).any():  # two errors within the limit can add up to twice this
        problem = f"a new quantile crossing of {crossing.max():.3g} of the scale"
    return CaseResult(
        case=truth.case.name,
        runner=runner,
        error=float(error.max()),
        error_by_quantile=tuple(float(e) for e in error.max(axis=(0, 2))),
        noise=float(truth.noise.max()),
        worst_of_limit=worst,
        problem=problem,
    )


def _no_forecast(truth: Truth, forecast: Floats | Exception) -> str:
    """Why an answer cannot be compared, or ""."""
    if isinstance(forecast, Exception):
        return f"{type(forecast).__name__}: {forecast}"
    if forecast.shape != truth.forecast.shape:
        return f"shape {list(forecast.shape)} instead of {list(truth.forecast.shape)}"
    return "" if np.isfinite(forecast).all() else "NaN or Inf"


def _crossings(forecast: Floats, scale: Floats) -> Floats:
    """How far each quantile lies above the next one, at each step: [rows, quantiles - 1, steps]."""
    return np.maximum(-np.diff(forecast.astype(np.float64), axis=1) / scale, 0)


def _attempt(runner: BaseRunner, case: Case) -> Floats | Exception:
    """A candidate's answer. Whatever it raises is its failure on that case, not the end of the proof."""
    try:
        return ask(runner, case)
    except Exception as error:
        return error
