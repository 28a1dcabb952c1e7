"""What an export may be off by: the roundings of upstream that it comes from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chronos.chronos2 import Chronos2Model

from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.runtime.session import Session
from chronos_export.validation import comparison as validation
from chronos_export.validation.cases import all_cases
from chronos_export.validation.comparison import Verdict, validate
from chronos_export.validation.exact import in_float64
from chronos_export.validation.runners import upstream_forecast
from chronos_export.validation.tolerance import SCALINGS, with_scaled_stream
from tests.helpers.checkpoints import make_ill_conditioned, make_model
from tests.helpers.torch_session import TorchSession
from tests.helpers.upstream import UpstreamSession

SEEDS = (0, 1, 4, 5, 6)
NAMES = {"pad_rows", "ragged_lengths_apart", "past_the_batch_size", "long_horizon_paths"}
CASES = [case for case in all_cases(16, 256, 8) if case.name in NAMES]
ORDINARY = next(case for case in CASES if case.name == "past_the_batch_size")


def as_exported(model: Chronos2Model) -> Session:
    segmented = rewrite(model)
    return TorchSession(segmented, univariate(segmented))


def proven(model: Chronos2Model, *candidates: Session) -> Verdict:
    return validate(model, {str(number): session for number, session in enumerate(candidates)}, CASES)


def forecast(model: Chronos2Model, dtype: torch.dtype = torch.float32) -> np.ndarray:
    return upstream_forecast(model, ORDINARY, dtype).numpy()


def test_a_scaled_stream_is_the_same_function() -> None:
    """By a power of two, so that its weights are exact."""
    model = make_model("small")
    models = in_float64(model), in_float64(with_scaled_stream(model, 4))
    one, other = (forecast(each, torch.float64) for each in models)
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("factor", SCALINGS)
def test_every_scaling_rounds_every_row_anew(factor: float) -> None:
    model = make_model("small")
    one, other = forecast(model), forecast(with_scaled_stream(model, factor))
    assert (one != other).any(axis=(1, 2)).all()
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_what_one_rounding_of_ill_conditioned_checkpoints_refuses_several_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rewritten model, and upstream rounded in ways that are none of those that set the tolerance."""
    models = [make_ill_conditioned(seed) for seed in SEEDS]
    roundings = [[with_scaled_stream(model, factor) for factor in (1.13, 0.77)] for model in models]
    candidates = [
        (as_exported(model), *map(UpstreamSession, rounded))
        for model, rounded in zip(models, roundings, strict=True)
    ]
    by_several = [proven(model, *right) for model, right in zip(models, candidates, strict=True)]
    assert [verdict.failures for verdict in by_several] == [()] * len(SEEDS)
    monkeypatch.setattr(validation, "SCALINGS", ())
    by_one = [proven(model, *right) for model, right in zip(models, candidates, strict=True)]
    assert any(verdict.failures for verdict in by_one)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_coarser_ill_conditioned_checkpoint_is_refused(seed: int) -> None:
    model = make_ill_conditioned(seed)
    coarse = make_ill_conditioned(seed)
    with torch.no_grad():
        for weight in coarse.parameters():
            weight.copy_(weight.half().float())
    verdict = proven(model, as_exported(coarse))
    assert {result.case for result in verdict.failures} == NAMES
