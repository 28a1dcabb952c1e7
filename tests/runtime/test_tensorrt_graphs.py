"""CUDA graphs of a TensorRT session: the same answers as without, from memory that keeps its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from chronos_export.artifact.engine_info import Profile
from chronos_export.errors import BuildError
from tests.helpers.stand_in import INFO, StandIn, inputs, needs_no_gpu

pytestmark = needs_no_gpu


def test_replayed_shapes_take_turns_and_answer_as_without_graphs(engine: StandIn) -> None:
    """Other numbers every time, of three shapes, two of them of one profile."""
    session, plain = engine.session(), engine.session(graphs=0)
    for turn in range(4):
        for rows, steps in ((5, 48), (7, 80), (30, 48)):
            context, ids, future = inputs(rows, steps)
            assert np.array_equal(
                session.run(context * turn, ids, future), plain.run(context * turn, ids, future)
            )
    assert engine.captures == 3


def test_a_graph_is_replayed_without_the_engines_calls(
    engine: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = engine.session()
    for _ in range(2):
        session.run(*inputs(5))
    monkeypatch.setattr(engine.contexts[-1], "execute_async_v3", pytest.fail)
    monkeypatch.setattr(engine, "create_execution_context", pytest.fail)
    assert np.isfinite(session.run(*inputs(5))).all()


def test_forecasts_of_a_graph_outlive_the_next_replay(engine: StandIn) -> None:
    session = engine.session()
    for _ in range(2):
        session.run(*inputs(8))
    first = session.run(*inputs(8))
    kept = first.copy()
    context, ids, future = inputs(8)
    assert not np.array_equal(session.run(-context, ids, future), kept)
    assert np.array_equal(first, kept)


def test_contexts_of_similar_length_are_one_shape(engine: StandIn) -> None:
    """Filled up on the left, which is as exact as rounding: the sums are the same in another order."""
    session, plain = engine.session(), engine.session(graphs=0)
    for length in (41, 42, 48):
        context, ids, future = inputs(8, length)
        filled = np.concatenate([np.full((8, 48 - length), np.nan, np.float32), context], axis=1)
        assert np.array_equal(session.run(context, ids, future), plain.run(filled, ids, future))
    assert engine.captures == 1


def test_no_context_is_filled_beyond_what_the_engine_takes(engine: StandIn) -> None:
    session = engine.session(replace(INFO, profiles=(Profile(8, 45),)))
    session.run(*inputs(8, 41))
    (bound,) = (context.shapes for context in engine.contexts if context.shapes)
    assert bound["context"] == (8, 45)


def test_all_contexts_share_one_piece_of_memory(engine: StandIn) -> None:
    session = engine.session()
    for _ in range(2):
        session.run(*inputs(8))
    assert len(engine.contexts) == len(INFO.profiles) + 1
    assert len({context.memory for context in engine.contexts}) == 1


def test_tensorrt_rtx_is_not_captured(engine: StandIn) -> None:
    session = engine.session(replace(INFO, runtime="tensorrt-rtx"))
    for _ in range(3):
        session.run(*inputs(8))
    assert engine.captures == 0


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted"), BuildError("refused")])
def test_an_engine_that_cannot_be_captured_runs_without(
    engine: StandIn, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    @contextmanager
    def capture(*_: Any, **__: Any) -> Iterator[None]:
        raise error
        yield

    monkeypatch.setattr(torch.cuda, "graph", capture)
    session = engine.session()
    wanted = session.run(*inputs(8))
    with pytest.warns(RuntimeWarning, match="without CUDA graphs: "):
        assert np.array_equal(session.run(*inputs(8)), wanted)
    assert np.array_equal(session.run(*inputs(8)), wanted)
