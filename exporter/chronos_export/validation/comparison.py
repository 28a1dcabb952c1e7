"""The proof: an exported model against the untouched upstream model, case by case.

Polygraphy's Comparator runs every case over the reference and the candidates. `tolerance.py` says how far off
a forecast may be.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from chronos.chronos2 import Chronos2Model
from polygraphy.backend.base import BaseRunner

from chronos_export.graph.precision import PRECISIONS, Precision
from chronos_export.machine.exhausted import exhausted
from chronos_export.progress import Report, ignore, stage
from chronos_export.runtime.session import Session
from chronos_export.validation.cases import Case
from chronos_export.validation.exact import in_float64
from chronos_export.validation.runners import (
    REFERENCE,
    Floats,
    SessionRunner,
    UpstreamRunner,
    ask,
    quiet_polygraphy,
    save_answers,
    upstream_forecast,
)
from chronos_export.validation.tolerance import (
    NOISE_FACTOR,
    SCALINGS,
    Tolerance,
    in_precision,
    tolerance,
    with_scaled_stream,
)

Forecasts: TypeAlias = dict[tuple[str, str], Floats | Exception]  # by runner and case

UNITS = (
    "error, noise (rounding alone): of the standard deviation of a series; worst_of_limit: of what is allowed"
)


@dataclass(frozen=True)
class CaseResult:
    """How one candidate answered one case.

    Attributes:
        case: Name of the case.
        runner: Name of the candidate.
        error: Largest scale-free error over all rows, quantiles and steps.
        error_by_quantile: The same for each quantile.
        noise: Upstream's own largest error in this type on the case, where it does not overflow.
        noise_db: Signal over noise of upstream's own forecast in this type, in dB, as Polygraphy computes it.
        worst_of_limit: Largest error in units of what its row allows; above 1 is a failure.
        problem: "" or why the case fails.
    """

    case: str
    runner: str
    error: float
    error_by_quantile: tuple[float, ...]
    noise: float
    noise_db: float
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
    def decibels(self) -> int:
        """Signal over noise that Polygraphy may ask of every case, 60 dB at most.

        Ten times what upstream itself loses in the type of the candidates is 20 dB less than it has.
        """
        own = [result.noise_db for result in self.results if math.isfinite(result.noise_db)]
        return math.floor(min([60.0, *(found - 20 * math.log10(NOISE_FACTOR) for found in own)]))

    @property
    def cases(self) -> int:
        """How many different cases were answered."""
        return len({result.case for result in self.results})

    @property
    def failures(self) -> tuple[CaseResult, ...]:
        return tuple(result for result in self.results if result.problem)

    def summary(self) -> dict[str, Any]:
        """What the manifest records: counts, the worst result of each runner, and what failed."""
        worst = {result.runner: result for result in sorted(self.results, key=lambda r: r.worst_of_limit)}
        return {
            "passed": self.passed,
            "cases": self.cases,
            "results": len(self.results),
            "units": UNITS,
            "worst": [_row(worst[runner]) for runner in sorted(worst)],
            "failures": [_row(result) for result in self.failures],
        }


def _row(result: CaseResult) -> dict[str, Any]:
    """A result for JSON, which has neither NaN nor infinities."""
    left_out = {"error_by_quantile", "noise_db"}
    row = {name: value for name, value in asdict(result).items() if name not in left_out}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


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
    exact, lone = in_float64(reference), [case for case in cases if case.is_univariate]
    with stage("validate", report) as progress, quiet_polygraphy():
        steps = progress.counted(cases, f"{REFERENCE}, case", 0.0, 0.3)
        answers = [ask(UpstreamRunner(reference), case) for case in steps]
        narrow = None if precision.name == "float32" else in_precision(reference, precision)
        answered = list(zip(cases, answers, strict=True))
        exactly = progress.counted(answered, f"{REFERENCE} in float64, case", 0.3, 0.6)
        tolerances = {case.name: tolerance(exact, narrow, case, answer) for case, answer in exactly}
        forecasts: Forecasts = {}
        for number, (name, session) in enumerate(candidates.items()):
            begin, middle, end = (0.6 + 0.4 * (number + part) / len(candidates) for part in (0, 0.5, 1))
            for runner, chosen, share in (
                (SessionRunner(session, name), cases, (begin, middle)),
                (SessionRunner(session, f"{name}/univariate", univariate=True), lone, (middle, end)),
            ):
                for case in progress.counted(chosen, f"{runner.name}, case", *share):
                    forecasts[runner.name, case.name] = _attempt(runner, case)
        verdict = _judge_all(reference, precision, tolerances, forecasts)
        if folder is not None:
            save_answers(folder, cases, answers)
            results_as_json = [asdict(result) for result in verdict.results]
            (folder / "results.json").write_text(json.dumps(results_as_json, indent=1))
    return verdict


def _judge_all(
    reference: Chronos2Model,
    precision: Precision,
    tolerances: dict[str, Tolerance],
    forecasts: Forecasts,
) -> Verdict:
    """Hold every forecast to the tolerance of its case, and one that fails to more and more roundings of it.

    A tolerance only grows with a rounding, so the verdict is the one that all of them would give.
    """
    results = {key: _judge(tolerances[key[1]], key[0], forecast) for key, forecast in forecasts.items()}
    for factor in SCALINGS:
        failed = [key for key, result in results.items() if result.problem and result.error < math.inf]
        if not failed:
            break
        rounded = in_precision(with_scaled_stream(reference, factor), precision)
        for name in {case for _, case in failed}:
            more = upstream_forecast(rounded, tolerances[name].case, torch.float32).numpy()
            tolerances[name] = tolerances[name].with_rounding(more)
        results |= {key: _judge(tolerances[key[1]], key[0], forecasts[key]) for key in failed}
    return Verdict(tuple(results.values()))


def _judge(allowed: Tolerance, runner: str, forecast: Floats | Exception) -> CaseResult:
    problem = _no_forecast(allowed, forecast)
    if problem or isinstance(forecast, Exception):
        blank = (float("inf"),) * allowed.forecast.shape[1]
        nan, inf = float("nan"), float("inf")
        return CaseResult(allowed.case.name, runner, inf, blank, nan, allowed.decibels, inf, problem)
    mine, theirs = (
        np.where(allowed.asked, found, 0).astype(np.float64) for found in (forecast, allowed.forecast)
    )
    error = np.abs(mine - theirs) / allowed.scale
    worst = float((error.max(axis=(1, 2)) / allowed.limit).max())
    crossing = _crossings(mine, allowed.scale) - _crossings(theirs, allowed.scale)
    crossing = crossing.max(axis=(1, 2), initial=0.0)
    if not worst <= 1:  # NaN too, which is what upstream's own NaN would make of it
        problem = f"error {worst:.3g} times what its row allows"
    elif (crossing > allowed.limit).any():  # two errors within the limit can add up to twice this
        problem = f"a new quantile crossing of {crossing.max():.3g} of the scale"
    return CaseResult(
        case=allowed.case.name,
        runner=runner,
        error=float(error.max()),
        error_by_quantile=tuple(float(e) for e in error.max(axis=(0, 2))),
        noise=float(allowed.noise.max()),
        noise_db=allowed.decibels,
        worst_of_limit=worst,
        problem=problem,
    )


def _no_forecast(allowed: Tolerance, forecast: Floats | Exception) -> str:
    """Why an answer cannot be compared, or ""."""
    if isinstance(forecast, Exception):
        return f"{type(forecast).__name__}: {forecast}"
    if forecast.shape != allowed.forecast.shape:
        return f"shape {list(forecast.shape)} instead of {list(allowed.forecast.shape)}"
    if not allowed.asked.any():
        return "upstream itself forecasts nothing but NaN and Inf"
    return "" if np.isfinite(forecast[allowed.asked]).all() else "NaN or Inf"


def _crossings(forecast: Floats, scale: Floats) -> Floats:
    """How far each quantile lies above the next one, at each step: [rows, quantiles - 1, steps]."""
    return np.maximum(-np.diff(forecast, axis=1) / scale, 0)


def _attempt(runner: BaseRunner, case: Case) -> Floats | Exception:
    """A candidate's answer. Whatever it raises is its failure on that case, not the end of the proof.

    Raises:
        MachineError: Memory or threads ran out, which says nothing of the candidate.
    """
    try:
        return ask(runner, case)
    except Exception as error:
        if lack := exhausted(error):
            raise lack from error
        return error
