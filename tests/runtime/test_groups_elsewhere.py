"""Two engines of one artifact, and an engine for univariate rows beside another runtime; see `stand_in`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from chronos_export.artifact.reading import Artifact
from chronos_export.errors import UsageError
from chronos_export.runtime import choice, opening, tensorrt_loading, tensorrt_session
from chronos_export.runtime.batched import BatchedSession
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.opening import Opened, open_session
from chronos_export.runtime.session import Folder
from chronos_export.runtime.tensorrt_loading import LoadedEngine
from tests.helpers.stand_in import INFO, StandIn, inputs, needs_no_gpu

pytestmark = needs_no_gpu
UNIVARIATE = replace(INFO, graph="univariate.onnx", attention="none", path=Path("engines/u.plan"))


@pytest.fixture
def alone(small_graphs: Path) -> StandIn:
    """The engine of the univariate graph."""
    return StandIn(small_graphs / "univariate.onnx")


def test_each_engine_answers_its_rows(engine: StandIn, alone: StandIn) -> None:
    cpu = torch.device("cpu")
    session = tensorrt_session.TensorRtSession(engine.loaded(), alone.loaded(UNIVARIATE), cpu)
    context, ids, future = inputs(7)
    single, grouped = session.run_univariate(context, future), session.run(context, ids, future)
    assert (engine.calls, alone.calls) == ([(7, 48)], [(7, 48)])
    apart = session.run(context, np.arange(7), future)
    np.testing.assert_allclose(single, apart, rtol=1e-3, atol=1e-3)
    assert not np.allclose(single, grouped, rtol=1e-3, atol=1e-3)
    assert len({context.memory for context in (*engine.contexts, *alone.contexts)}) == 1


def test_groups_are_refused_by_an_engine_for_univariate_rows(engine: StandIn, alone: StandIn) -> None:
    session = tensorrt_session.TensorRtSession(None, alone.loaded(UNIVARIATE), torch.device("cpu"))
    context, ids, future = inputs(7)
    with pytest.raises(UsageError, match="rows without groups"):
        session.run(context, ids, future)
    assert session.run(context, np.arange(7), future).shape[0] == 7


# ---- opened from an artifact ----

Open = Callable[..., Opened]


@pytest.fixture
def opened(
    artifact_of: Callable[[str], Artifact], engine: StandIn, alone: StandIn, monkeypatch: pytest.MonkeyPatch
) -> Open:
    """Open the small artifact as if it held both engines, where an obstacle may keep the general one out."""
    artifact = artifact_of("small")
    infos = [replace(info, path=artifact.path / info.path) for info in (INFO, UNIVARIATE)]
    manifest = replace(artifact.manifest, engines=[info.as_entry(artifact.path) for info in infos])
    monkeypatch.setattr(Artifact, "file", lambda self, name: self.path / name)
    monkeypatch.setattr(tensorrt_session, "CUDA", torch.device("cpu"))
    plans = dict.fromkeys(("engines/tensorrt.plan", "engines/u.plan"), manifest.files["model.onnx"])
    artifact = replace(artifact, manifest=replace(manifest, files=manifest.files | plans))

    def load(info: object, *_: object) -> LoadedEngine:
        return (engine if info == infos[0] else alone).loaded(infos[0] if info == infos[0] else infos[1])

    monkeypatch.setattr(tensorrt_loading, "load_engine", load)
    make = tensorrt_session.TensorRtSession
    monkeypatch.setattr(
        tensorrt_session, "TensorRtSession", lambda *engines: make(*engines, torch.device("cpu"))
    )

    def open_it(obstacle: str = "", runtime: str = "auto") -> Opened:
        monkeypatch.setattr(choice, "why_not_here", lambda info: obstacle if info == infos[0] else "")
        return open_session(artifact, runtime)

    return open_it


def batched(opened: Opened) -> BatchedSession:
    return BatchedSession(opened.session, opened.limits, patch=16, context_length=8192, quantiles=21)


def test_the_batching_chooses_between_both_engines(opened: Open, engine: StandIn, alone: StandIn) -> None:
    context, _, future = inputs(9)
    ids = np.array([0, 0, 1, 2, 3, 3, 3, 4, 5])
    batched(opened()).forecast(context, ids, 2, future)
    assert (engine.calls, alone.calls) == ([(5, 48)], [(4, 48)])


def test_groups_go_to_onnxruntime_where_the_plugin_is_missing(
    opened: Open, engine: StandIn, alone: StandIn, small_graphs: Path
) -> None:
    """Of more rows than the engine's profiles hold."""
    answered = opened("it needs the compiled plugin")
    assert str(answered.choice) == "tensorrt on cuda"
    assert "engines/tensorrt.plan: it needs the compiled plugin" in answered.choice.reason
    context, _, future = inputs(104)
    ids = np.concatenate([np.repeat([-1, -2], 50), np.arange(4)])
    out = batched(answered).forecast(context, ids, 2, future)
    assert (engine.calls, alone.calls) == ([], [(4, 48)])
    wanted = OrtSession(Folder(small_graphs), threads=1).run(context, ids, future)
    np.testing.assert_allclose(out, wanted, rtol=1e-3, atol=1e-3)


def test_a_named_runtime_does_not_do_with_less(opened: Open, engine: StandIn) -> None:
    context, ids, future = inputs(6)
    batched(opened("it needs the compiled plugin", "tensorrt")).forecast(context, ids, 2, future)
    assert engine.calls == [(6, 48)]


def test_calls_are_cut_where_padding_would_cost_more(
    opened: Open, engine: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes are free, so padding is work; but where the calls are small, two take longer than one."""
    context, _, future = inputs(20, 120)
    context[10:, :100] = np.nan
    batched(opened()).forecast(context, np.arange(20) // 2, 2, future)
    assert engine.calls == [(20, 128)]
    engine.calls.clear()
    monkeypatch.setattr(opening, "LEAST", 0)
    batched(opened()).forecast(context, np.arange(20) // 2, 2, future)
    assert sorted(steps for _, steps in engine.calls) == [32, 128]
