"""The host's side of a TensorRT session: profiles, padding, addresses, shapes, refusals.

Nothing here needs a GPU, and nothing here says that an engine computes right: streams are stand-ins and the
engine is onnxruntime behind TensorRT's calls, reading and writing the addresses it is given. Where there is a
GPU, `scripts/gpu_check` runs real engines.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from chronos_export.checkpoint import Checkpoint, load_checkpoint, load_reference
from chronos_export.engine_info import EngineInfo
from chronos_export.engine_load import LoadedEngine
from chronos_export.engine_proof import prove_engine, split_cases, why_not_here
from chronos_export.errors import BuildError, UsageError
from chronos_export.exporting import cases_of, write_graphs
from chronos_export.pipeline import as_pipeline
from chronos_export.plan import Limits
from chronos_export.precision import precision_of
from chronos_export.tensorrt_session import TensorRtSession
from chronos_export.trt_libraries import device_capability

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a stand-in for where there is no GPU")
INFO = EngineInfo(
    path=Path("engines/tensorrt.plan"),
    target="tensorrt",
    attention="plugin",
    tensorrt_version="10.16.1",
    compute_capabilities=("9.0",),
    driver=None,
    plugin_sha256=None,
    profiles=(40, 8),
    context=256,
    horizon=64,
    plugin_layers=3,
    bytes=1,
    build_seconds=1.0,
    peak_rss_bytes=1,
)
CTYPES = {np.dtype("float32"): ctypes.c_float, np.dtype("int64"): ctypes.c_int64}
DTYPES = {"context": np.float32, "group_ids": np.int64, "future_covariates": np.float32}


def at(address: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """The numbers at an address, as an array that can be written to."""
    kind = CTYPES[np.dtype(dtype)]
    size = int(np.prod(shape))
    return np.ctypeslib.as_array((kind * size).from_address(address)).reshape(shape)


class StandInContext:
    """An IExecutionContext of one profile over onnxruntime."""

    def __init__(self, engine: StandIn) -> None:
        self.engine, self.rows = engine, 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self.rows = INFO.profiles[number]
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return shape[0] == self.rows

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        horizon = self.shapes["future_covariates"][1]
        return (self.rows, 21, -(-horizon // 16) * 16)

    def execute_async_v3(self, stream: int) -> bool:
        self.engine.calls.append(self.rows)
        self.engine.during()
        feed = {name: at(self.addresses[name], self.shapes[name], DTYPES[name]) for name in DTYPES}
        (out,) = self.engine.graph.run(None, feed)
        at(self.addresses["quantile_preds"], out.shape, np.float32)[:] = out
        return self.engine.works


class StandIn:
    """An ICudaEngine that records the rows of every call."""

    def __init__(self, folder: Path) -> None:
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        self.graph = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.calls: list[int] = []
        self.works = True
        self.during: Callable[[], object] = lambda: None

    def create_execution_context(self) -> StandInContext:
        return StandInContext(self)


@pytest.fixture(scope="module")
def checkpoint(small: Path) -> Checkpoint:
    return load_checkpoint(str(small))


@pytest.fixture(scope="module")
def folder(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    write_graphs(checkpoint, folder, precision_of("float32"))
    return folder


@pytest.fixture
def engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    def stream() -> Any:
        return SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: None, cuda_stream=7)

    monkeypatch.setattr(torch.cuda, "Stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda s: nullcontext())
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, s: None)
    return StandIn(folder)


@pytest.fixture
def session(engine: StandIn) -> TensorRtSession:
    return TensorRtSession(LoadedEngine(None, engine, ()), INFO, torch.device("cpu"))


def inputs(rows: int, context: int = 48, horizon: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(rows)
    return (
        torch.randn(rows, context).cumsum(1),
        torch.arange(rows) // 3,
        torch.full((rows, horizon), torch.nan),
    )


@pytest.mark.parametrize(("rows", "profile"), [(1, 8), (8, 8), (9, 40), (40, 40)])
def test_rows_go_to_the_smallest_profile_and_come_back_alone(
    session: TensorRtSession, engine: StandIn, rows: int, profile: int
) -> None:
    out = session.run(*inputs(rows))
    assert out.shape == (rows, 21, 32)
    assert torch.isfinite(out).all()
    assert engine.calls == [profile]


def test_tensors_that_are_not_contiguous(session: TensorRtSession) -> None:
    context, ids, future = inputs(8)
    spread = torch.stack([context, torch.zeros_like(context)], dim=2)[:, :, 0]
    assert not spread.is_contiguous()
    assert torch.equal(session.run(spread, ids, future), session.run(context, ids, future))


def test_a_forecast_outlives_the_next_call(session: TensorRtSession) -> None:
    first = session.run(*inputs(8))
    kept = first.clone()
    session.run(inputs(7)[0], *inputs(7)[1:])
    assert torch.equal(first, kept)


@pytest.mark.parametrize(
    ("given", "told", "fix"),
    [
        ((41, 48, 16), "41 rows in one call", "--batch 40,8,41 "),
        ((8, 257, 16), "a context of 257 steps", "--context 257 "),
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
    with pytest.raises(BuildError, match="failed on 8 rows"):
        session.run(*inputs(3))


def test_a_pipeline_over_profiles(session: TensorRtSession, engine: StandIn, checkpoint: Checkpoint) -> None:
    """43 rows in groups of 20, 20 and 3: one call of 40 and one of 8, and upstream's forecasts."""
    limits = Limits(tokens=2**31, padding=1.0, profiles=INFO.profiles)
    pipeline = as_pipeline(session, checkpoint.config["chronos_config"], limits)
    series = [torch.randn(size, 48).cumsum(1) for size in (20, 20, 3)]
    found = pipeline.predict(series, prediction_length=20)
    wanted = checkpoint.pipeline.predict(series, prediction_length=20)
    assert sorted(engine.calls) == [8, 40]
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape
        assert float((mine - theirs).abs().max() / theirs.abs().max()) < 1e-3


# ---- the proof ----


def test_cases_beyond_the_engine_are_left_out_by_name(checkpoint: Checkpoint) -> None:
    cases = cases_of(checkpoint.config)
    fitting, beyond = split_cases(cases, INFO)
    assert {case.name for case in fitting} | {case.name for case in beyond} == {case.name for case in cases}
    assert len(fitting) > 10
    assert len(beyond) > 1
    for case in fitting:
        assert (
            len(case.context) <= 40 and case.context.shape[1] <= 256 and case.future_covariates.shape[1] <= 64
        )
    for case in beyond:
        assert len(case.context) > 40 or case.context.shape[1] > 256 or case.future_covariates.shape[1] > 64


@pytest.mark.parametrize("right", [True, False])
def test_an_engine_is_held_against_upstream(
    session: TensorRtSession,
    engine: StandIn,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    right: bool,
) -> None:
    if not right:
        execute = session._execute
        monkeypatch.setattr(session, "_execute", lambda context, feed: execute(context, feed) * 1.001)
    monkeypatch.setattr("chronos_export.engine_proof.why_not_here", lambda info: "")
    monkeypatch.setattr("chronos_export.engine_proof._session", lambda info: session)
    cases = cases_of(checkpoint.config)
    model = load_reference(checkpoint).model
    info = replace(INFO, context=128, horizon=32)
    proof, results = prove_engine(model, info, cases, precision_of("float32"), lambda event: None)
    assert all(not result.problem for result in results) is right
    assert {result.runner for result in results} == {"tensorrt", "tensorrt/univariate"}
    fitting, beyond = split_cases(cases, info)
    assert proof.cases == len(fitting)
    assert proof.left_out == tuple(case.name for case in beyond)
    assert proof.left_out[0] in proof.line


@pytest.mark.skipif(device_capability() is not None, reason="this machine has a GPU")
def test_an_engine_that_cannot_run_here_is_not_run(checkpoint: Checkpoint) -> None:
    info = replace(INFO, target="tensorrt-rtx")
    assert "not installed" in why_not_here(info) or "no GPU" in why_not_here(info)
    proof, results = prove_engine(
        checkpoint.pipeline.model, info, [], precision_of("tf32"), lambda event: None
    )
    assert results == ()
    assert proof.line.startswith("tensorrt.plan was not run: ")
