"""The proof: what it passes, what it fails, and what it leaves for Polygraphy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from chronos.chronos2 import Chronos2Model
from polygraphy.comparator import RunResults
from polygraphy.json import load_json

from chronos_export.artifact.reading import Artifact
from chronos_export.errors import AccuracyError
from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.progress import Event
from chronos_export.runtime.session import Floats, Ints
from chronos_export.validation.cases import Case, all_cases
from chronos_export.validation.comparison import Verdict, _judge, validate
from chronos_export.validation.exact import in_float64
from chronos_export.validation.proof import refuse_failures
from chronos_export.validation.tolerance import NOISE_FACTOR, Tolerance
from tests.helpers.checkpoints import make_model
from tests.helpers.torch_session import TorchSession

CASES = [
    case
    for case in all_cases(16, 256, 8)
    if case.name in {"one_row", "singles", "unsorted_ids", "all_nan_row", "tiny_scale", "huge_scale"}
]


@pytest.fixture(scope="module")
def upstream() -> Chronos2Model:
    return make_model("small")


@pytest.fixture(scope="module")
def session() -> TorchSession:
    segmented = rewrite(make_model("small"))
    return TorchSession(segmented, univariate(segmented))


class Altered:
    """A session whose answers are altered."""

    def __init__(self, session: TorchSession, alter: Callable[[Floats], Floats], lone: bool = False) -> None:
        self.session, self.alter, self.lone = session, alter, lone

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        out = self.session.run(context, group_ids, future_covariates)
        return out if self.lone else self.alter(out)

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        out = self.session.run_univariate(context, future_covariates)
        return self.alter(out) if self.lone else out


def prove(upstream: Chronos2Model, candidate: object, cases: list[Case] = CASES) -> Verdict:
    return validate(upstream, {"mine": candidate}, cases)


def one_nan(out: Floats) -> Floats:
    out = out.copy()
    out[:, :, 3] = np.nan
    return out


def shorter(out: Floats) -> Floats:
    return out[..., :-1]


def broken(out: Floats) -> Floats:
    raise RuntimeError("out of luck")


def of_the_worst_row(out: Floats) -> Floats:
    """One quantile of one step of the last row, off by a thousandth of the row's own spread."""
    out = out.copy()
    out[-1, 4, 7] += 1e-3 * out[-1].std()
    return out


def test_the_truth_passes(upstream: Chronos2Model, session: TorchSession) -> None:
    verdict = prove(upstream, session)
    assert verdict.passed
    refuse_failures(verdict)
    assert {r.runner for r in verdict.results} == {"mine", "mine/univariate"}
    assert {r.case for r in verdict.results if r.runner == "mine"} == {case.name for case in CASES}
    assert {r.case for r in verdict.results if r.runner == "mine/univariate"} == {"one_row", "singles"}
    assert all(r.noise > 0 and r.worst_of_limit <= 1 for r in verdict.results)
    assert all(len(r.error_by_quantile) == 21 for r in verdict.results)
    assert all(max(r.error_by_quantile) == r.error for r in verdict.results)


@pytest.mark.parametrize(
    ("alter", "problem"),
    [
        (one_nan, "NaN or Inf"),
        (shorter, "shape"),
        (broken, "RuntimeError: out of luck"),
        (of_the_worst_row, "times what its row allows"),
    ],
)
@pytest.mark.parametrize("lone", [False, True], ids=["general", "univariate"])
def test_an_altered_answer_fails(
    alter: Callable[[Floats], Floats],
    problem: str,
    lone: bool,
    upstream: Chronos2Model,
    session: TorchSession,
) -> None:
    verdict = prove(upstream, Altered(session, alter, lone))
    runner = "mine/univariate" if lone else "mine"
    wrong = [result for result in verdict.results if result.runner == runner]
    assert verdict.failures == tuple(wrong)
    assert all(problem in result.problem for result in wrong)
    with pytest.raises(AccuracyError, match=f"{runner} on one_row") as error:
        refuse_failures(verdict)
    assert error.value.exit_code == 1


def test_a_new_crossing_fails_where_the_errors_alone_would_pass() -> None:
    forecast = np.zeros((1, 3, 2), np.float32) + np.array([0.0, 0.1, 0.2], np.float32)[None, :, None]
    zero, one = np.zeros((1, 1, 1)), np.ones((1, 1, 1))
    allowed = Tolerance(CASES[0], forecast, forecast + 1 / NOISE_FACTOR, zero, one, (forecast,), by_row=True)
    np.testing.assert_allclose(allowed.limit, 1)
    shifted = forecast + np.float32(0.9)
    assert _judge(allowed, "mine", shifted).problem == ""
    crossed = forecast.copy()
    crossed[0, 1] += 0.9
    crossed[0, 2] -= 0.9
    result = _judge(allowed, "mine", crossed)
    assert result.worst_of_limit < 1
    assert result.problem == "a new quantile crossing of 1.7 of the scale"
    already = replace(allowed, forecast=crossed)
    assert _judge(already, "mine", crossed).problem == ""


def test_upstreams_own_nan_is_not_a_pass(upstream: Chronos2Model, session: TorchSession) -> None:
    sick = replace(CASES[0], context=CASES[0].context * np.float32(np.inf))
    assert not prove(upstream, session, [sick]).passed


def test_the_limit_is_ten_times_upstreams_own_noise(upstream: Chronos2Model, session: TorchSession) -> None:
    case = next(case for case in CASES if case.name == "tiny_scale")
    context, ids, future = (torch.from_numpy(case.feed[name]) for name in case.feed)
    call = {"context": context, "group_ids": ids, "num_output_patches": 2}
    with torch.no_grad():
        near = upstream(**call, future_covariates=future).quantile_preds.double()
        true = in_float64(upstream)(**{**call, "context": context.double()}).quantile_preds
    spread = context.double().std(1, correction=0)
    noise = ((near - true).abs().amax((1, 2)) / spread).numpy()
    (result,) = prove(upstream, session, [case]).results
    # Upstream's spread is a sum of 96 numbers in float32: 96 roundings of 6e-8 at most.
    assert result.noise == pytest.approx(noise.max(), rel=1e-5)

    for times, passes in ((0.5, True), (2.0, False)):
        offset = times * NOISE_FACTOR * torch.from_numpy(noise) * spread
        by = offset[:, None, None].float().numpy()
        shifted = Altered(OneAnswer(near.float().numpy()), lambda out, by=by: out + by)
        assert prove(upstream, shifted, [case]).passed is passes


class OneAnswer:
    """A session that knows one answer."""

    def __init__(self, answer: Floats) -> None:
        self.answer = answer

    def run(self, *_: Floats) -> Floats:
        return self.answer


def test_the_summary_counts_and_names(upstream: Chronos2Model, session: TorchSession) -> None:
    summary = prove(upstream, Altered(session, one_nan)).summary()
    assert summary["passed"] is False
    assert (summary["cases"], summary["results"]) == (len(CASES), len(CASES) + 2)
    assert {row["runner"] for row in summary["worst"]} == {"mine", "mine/univariate"}
    assert {row["case"] for row in summary["failures"]} == {case.name for case in CASES}
    good = prove(upstream, session).summary()
    assert good["passed"] is True
    assert good["failures"] == []
    json.dumps(good)
    worst = {row["runner"]: row["worst_of_limit"] for row in good["worst"]}
    results = prove(upstream, session).results
    assert worst["mine"] == max(r.worst_of_limit for r in results if r.runner == "mine")


def test_nothing_proven_is_not_passed() -> None:
    assert not Verdict(()).passed


def test_progress_is_reported(upstream: Chronos2Model, session: TorchSession) -> None:
    events: list[Event] = []
    validate(upstream, {"mine": session}, CASES[:2], report=events.append)
    fractions = [event.fraction for event in events if event.fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    messages = [event.message for event in events]
    for what in ("upstream", "upstream in float64", "mine"):
        assert messages.count(f"{what}, case 1/2") == messages.count(f"{what}, case 2/2") == 1
    assert any(message.startswith("mine/univariate, case 1/") for message in messages)


def test_every_case_has_a_name_of_its_own_and_is_the_same_every_time() -> None:
    one, two = (list(all_cases(16, 8192, 64)) for _ in range(2))
    assert len({case.name for case in one}) == len(one) >= 40
    for a, b in zip(one, two, strict=True):
        for name in a.feed:
            np.testing.assert_array_equal(a.feed[name], b.feed[name])
            assert len(a.feed[name]) == len(a.group_ids)
        assert a.feed["context"].dtype == a.feed["future_covariates"].dtype == np.float32


def test_polygraphy_reads_what_was_left(artifact_of: Callable[[str], Artifact]) -> None:
    folder = artifact_of("small").path / "validation"
    inputs = load_json(str(folder / "inputs.json"))
    golden = RunResults.load(str(folder / "golden.json"))
    names = [line.split("\t")[1] for line in (folder / "cases.tsv").read_text().splitlines()]
    results = json.loads((folder / "results.json").read_text())
    ((runner, iterations),) = golden.items()
    assert runner == "upstream"
    overflowing = {"overflowing_sums", "overflowing_sums_apart"}
    assert len(inputs) == len(iterations) == len(names) == len(set(names) - overflowing)
    assert {*names, *overflowing} == {r["case"] for r in results}
    for feed, iteration in zip(inputs, iterations, strict=True):
        assert set(feed) == {"context", "group_ids", "future_covariates"}
        assert np.asarray(iteration["quantile_preds"]).shape[:2] == (len(feed["context"]), 21)
