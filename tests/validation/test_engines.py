"""The proof of an engine: which cases it is asked, and that a wrong answer is noticed; see `stand_in`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from chronos_export.artifact.engine_info import Profile
from chronos_export.checkpoint.loading import Checkpoint, load_checkpoint, load_reference
from chronos_export.graph.precision import precision_of
from chronos_export.runtime.tensorrt_loading import why_not_here
from chronos_export.runtime.tensorrt_session import TensorRtSession
from chronos_export.validation.cases import Case
from chronos_export.validation.engines import prove_engine, split_cases
from chronos_export.validation.proof import cases_of
from tests.helpers.engines import without_gpu
from tests.helpers.stand_in import INFO, StandIn, needs_no_gpu

pytestmark = needs_no_gpu


@pytest.fixture(scope="module")
def checkpoint(small: Path) -> Checkpoint:
    return load_checkpoint(str(small))


@pytest.fixture
def session(engine: StandIn) -> TensorRtSession:
    return engine.session()


def test_cases_beyond_the_engine_are_left_out_by_name(checkpoint: Checkpoint) -> None:
    cases = cases_of(checkpoint.config)
    fitting, beyond = split_cases(cases, INFO)
    assert {case.name for case in fitting} | {case.name for case in beyond} == {case.name for case in cases}
    assert len(fitting) > 10
    assert len(beyond) > 1

    def admitted(case: Case) -> bool:
        rows, context = case.context.shape
        small = (rows <= 40 and context <= 128) or (rows <= 8 and context <= 256)
        return small and case.future_covariates.shape[1] <= 64

    assert all(map(admitted, fitting))
    assert not any(map(admitted, beyond))
    without_groups, _ = split_cases(cases, replace(INFO, graph="univariate.onnx"))
    assert without_groups == [case for case in fitting if case.is_univariate]


@pytest.mark.parametrize("right", [True, False])
def test_an_engine_is_held_against_upstream(
    session: TensorRtSession,
    engine: StandIn,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    right: bool,
) -> None:
    if not right:
        engine.factor = 1.001
    monkeypatch.setattr("chronos_export.validation.engines.why_not_here", lambda info: "")
    monkeypatch.setattr("chronos_export.validation.engines._session", lambda info, digest: session)
    cases = cases_of(checkpoint.config)
    model = load_reference(checkpoint).model
    info = replace(INFO, profiles=(Profile(40, 128),), horizon=32)
    proof, results = prove_engine(model, info, "", cases, precision_of("float32"), lambda event: None)
    assert all(not result.problem for result in results) is right
    assert proof.status == "validated" if right else "failed"
    assert {result.runner for result in results} == {"tensorrt", "tensorrt/univariate"}
    fitting, beyond = split_cases(cases, info)
    assert proof.cases == len(fitting)
    assert proof.left_out == tuple(case.name for case in beyond)
    assert proof.left_out[0] in proof.line


def test_an_engine_of_another_tensorrt_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chronos_export.runtime.tensorrt_loading.require_installed", lambda runtime: None)
    monkeypatch.setattr("chronos_export.runtime.tensorrt_loading.check_here", lambda *args: None)
    other = SimpleNamespace(__version__="11.4.0")
    monkeypatch.setattr("chronos_export.runtime.tensorrt_loading.import_tensorrt", lambda runtime: other)
    why = why_not_here(replace(INFO, tensorrt_version="10.16.1"))
    assert "was built by tensorrt 10.16.1; installed is 11.4.0" in why


@without_gpu
def test_an_engine_that_cannot_run_here_is_not_run(checkpoint: Checkpoint) -> None:
    info = replace(INFO, runtime="tensorrt-rtx")
    assert "not installed" in why_not_here(info) or "no GPU" in why_not_here(info)
    proof, results = prove_engine(
        checkpoint.pipeline.model, info, "", [], precision_of("tf32"), lambda event: None
    )
    assert results == ()
    assert proof.line.startswith("tensorrt.plan was not run: ")
    assert proof.status == "built, not run"
