"""The host's side of a TensorRT session: profiles, staging, addresses, shapes, refusals; see `stand_in`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from chronos_export.checkpoint.loading import Checkpoint, load_checkpoint
from chronos_export.errors import BuildError, UsageError
from chronos_export.pipeline.model import as_pipeline
from chronos_export.runtime import tensorrt_call
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.tensorrt_session import TensorRtSession
from tests.helpers.stand_in import INFO, StandIn, StandInContext, inputs, needs_no_gpu
from tests.helpers.upstream import assert_as_upstream, exact_pipeline

pytestmark = needs_no_gpu


@pytest.fixture(scope="module")
def checkpoint(small: Path) -> Checkpoint:
    return load_checkpoint(str(small))


@pytest.fixture
def session(engine: StandIn) -> TensorRtSession:
    return engine.session()


@pytest.mark.parametrize("rows", [1, 8, 9, 40])
def test_no_row_is_added_to_a_call(session: TensorRtSession, engine: StandIn, rows: int) -> None:
    out = session.run(*inputs(rows))
    assert out.shape == (rows, 21, 32)
    assert np.isfinite(out).all()
    assert engine.calls == [(rows, 48)]


@pytest.mark.parametrize(("rows", "context", "profile"), [(8, 48, 1), (9, 48, 0), (8, 250, 1), (40, 128, 0)])
def test_a_call_goes_to_a_profile_that_admits_it(
    session: TensorRtSession, engine: StandIn, rows: int, context: int, profile: int
) -> None:
    session.run(*inputs(rows, context))
    (used,) = (context for context in engine.contexts if context.shapes)
    assert used.profile == INFO.profiles[profile]


def test_arrays_that_are_not_contiguous(session: TensorRtSession) -> None:
    context, ids, future = inputs(8)
    spread = np.stack([context, np.zeros_like(context)], axis=2)[:, :, 0]
    assert not spread.flags.c_contiguous
    assert np.array_equal(session.run(spread, ids, future), session.run(context, ids, future))


def test_a_tensor_in_the_middle_of_another_is_copied() -> None:
    """TensorRT refuses its address, and would read where the call before was."""
    inside = torch.arange(100.0)[1:]
    assert inside.data_ptr() % tensorrt_call.ALIGNMENT
    moved = tensorrt_call.on_device(inside, torch.device("cpu"))
    assert moved.data_ptr() != inside.data_ptr()
    assert torch.equal(moved, inside)


def test_a_refused_address_is_an_error(engine: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    session = engine.session()
    monkeypatch.setattr(StandInContext, "set_tensor_address", lambda *_: False)
    with pytest.raises(BuildError, match="refuses context at address 0x"):
        session.run(*inputs(3))


def test_a_forecast_outlives_the_next_call(session: TensorRtSession) -> None:
    first = session.run(*inputs(8))
    kept = first.copy()
    session.run(inputs(7)[0], *inputs(7)[1:])
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(
    ("given", "told", "fix"),
    [
        ((41, 48, 16), "41 rows of 48 steps in one call", "--batch 41 "),
        ((8, 257, 16), "8 rows of 257 steps in one call", "--context 257 "),
        ((9, 129, 16), "9 rows of 129 steps in one call", "--memory MORE "),
        ((8, 48, 65), "a horizon of 65 steps", "--horizon 65 "),
    ],
)
def test_more_than_the_engine_was_built_for(
    session: TensorRtSession, engine: StandIn, given: tuple[int, int, int], told: str, fix: str
) -> None:
    with pytest.raises(UsageError, match=told) as raised:
        session.run(*inputs(*given))
    assert fix in raised.value.fix
    assert engine.calls == []


def test_two_calls_at_once_are_refused(session: TensorRtSession, engine: StandIn) -> None:
    engine.during = lambda: session.run(*inputs(3))
    with pytest.raises(UsageError, match="at once") as raised:
        session.run(*inputs(3))
    assert raised.value.allowed == "one session per thread"
    engine.during = lambda: None
    assert session.run(*inputs(3)).shape[0] == 3


def test_an_engine_that_fails(session: TensorRtSession, engine: StandIn) -> None:
    engine.works = False
    with pytest.raises(BuildError, match="failed on 3 rows"):
        session.run(*inputs(3))


def test_a_pipeline_over_profiles(session: TensorRtSession, engine: StandIn, checkpoint: Checkpoint) -> None:
    """43 rows in groups of 20, 20 and 3: two calls, and upstream's forecasts."""
    upstream = checkpoint.pipeline
    limits = Limits(2**31, 1.0, INFO.profiles, None)
    pipeline = as_pipeline(session, checkpoint.config["chronos_config"], limits)
    series = [inputs(size)[0] for size in (20, 20, 3)]
    answers = [
        p.predict(series, prediction_length=20) for p in (pipeline, upstream, exact_pipeline(upstream))
    ]
    assert sorted(engine.calls) == [(3, 48), (40, 48)]
    assert_as_upstream(*answers)


def test_inputs_are_staged_in_page_locked_memory(engine: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each, also where nothing is added; a stand-in, since there is none without a GPU."""
    session, empty, pinned = engine.session(), torch.empty, []

    def recorded(*shape: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        pinned.append(pin_memory)
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", recorded)
    session.device = torch.device("cuda")
    for before in inputs(8):
        after = session._staged(before)
        np.testing.assert_array_equal(after, before)
        assert before is not after
    assert pinned == [True] * 3


def test_a_forecast_is_float32_whatever_pytorch_makes_by_default(session: TensorRtSession) -> None:
    """Its memory is handed to the engine, which writes float32."""
    given = inputs(8)
    wanted = session.run(*given)
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(session.run(*given), wanted)
    finally:
        torch.set_default_dtype(torch.float32)
