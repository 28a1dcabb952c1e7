"""bfloat16, float16 and int8 on a CPU: proven, judged by the loss on real series, loaded where they run."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from chronos.chronos2 import Chronos2Model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from chronos_export import load
from chronos_export.artifact.reading import open_artifact
from chronos_export.engine.choice import EngineOptions
from chronos_export.errors import AccuracyError, MachineError, UsageError
from chronos_export.exporting.export import export
from chronos_export.graph import int8
from chronos_export.graph.builder import GraphBuilder
from chronos_export.graph.int8 import quantized_product
from chronos_export.graph.precision import precision_of
from chronos_export.graph_contract import WEIGHTS
from chronos_export.pipeline.model import SessionModel
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.openvino_session import OpenVinoSession
from chronos_export.runtime.session import Floats, Ints, Session
from chronos_export.validation import quantile_loss
from chronos_export.validation.cases import all_cases
from chronos_export.validation.comparison import validate
from chronos_export.validation.quantile_loss import LossChange, require_small, weighted_quantile_loss
from tests.helpers.checkpoints import make_model

SESSIONS = {"float16": OrtSession, "bfloat16": OpenVinoSession, "int8": OrtSession}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo checkpoint in every type."""
    folder = tmp_path_factory.mktemp("narrow")
    return {
        dtype: export("demo", output=folder / dtype, dtype=dtype).path for dtype in ("float32", *SESSIONS)
    }


@pytest.mark.parametrize("dtype", SESSIONS)
def test_is_proven_and_judged_on_real_series(dtype: str, artifacts: dict[str, Path]) -> None:
    manifest = open_artifact(artifacts[dtype]).manifest
    (loss,) = manifest.validation["quantile_loss"]
    assert manifest.dtype == dtype
    assert manifest.validation["passed"]
    assert 0 < abs(loss["change"]) < quantile_loss.LARGEST_CHANGE


@pytest.mark.parametrize("dtype", SESSIONS)
def test_loads_where_it_was_proven(dtype: str, artifacts: dict[str, Path]) -> None:
    series = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)).cumsum(1)
    pipeline, exact = load(artifacts[dtype]), load(artifacts["float32"])
    assert isinstance(pipeline.model, SessionModel)
    assert isinstance(pipeline.model.session, SESSIONS[dtype])
    found, expected = (p.predict([series], prediction_length=40)[0] for p in (pipeline, exact))
    difference = ((found - expected).abs().amax(dim=(1, 2)) / series.std(dim=1)).max()
    assert 1e-5 < difference < 0.5


def test_float32_is_not_judged(artifacts: dict[str, Path]) -> None:
    assert open_artifact(artifacts["float32"]).manifest.validation["quantile_loss"] == []


def test_weights_take_less_room(artifacts: dict[str, Path]) -> None:
    size = {dtype: (path / WEIGHTS).stat().st_size for dtype, path in artifacts.items()}
    assert size["int8"] < size["bfloat16"] < 0.65 * size["float32"]


def test_bfloat16_needs_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MachineError, match="bfloat16 on a CPU needs openvino") as error:
        export("demo", output=tmp_path / "narrow", dtype="bfloat16")
    assert "pip install 'chronos-export[openvino]'" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_without_real_series_nothing_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(MachineError, match="statsmodels, which is not installed"):
        export("demo", output=tmp_path / "narrow", dtype="int8")
    assert list(tmp_path.iterdir()) == []


def test_int8_is_no_engine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tensorrt-rtx cannot build int8 engines"):
        export("demo", output=tmp_path / "x", dtype="int8", engine=EngineOptions("tensorrt-rtx"))
    assert list(tmp_path.iterdir()) == []


def test_four_bits_are_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate, where the proof cannot tell: upstream rounded to 4 bits forecasts as badly."""
    monkeypatch.setattr(int8, "LEVELS", 7)
    with pytest.raises(AccuracyError, match=r"int8 moves the quantile loss of onnxruntime .* by \+") as error:
        export("demo", output=tmp_path / "narrow", dtype="int8")
    assert error.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ours", [1.006, 0.994])
def test_a_loss_that_moves_is_refused_either_way(ours: float) -> None:
    require_small((LossChange("x", {"a": 1.0, "b": 1.0}, {"a": 1.004, "b": 0.996}),), "int8")
    with pytest.raises(AccuracyError):
        require_small((LossChange("x", {"a": 1.0, "b": 1.0}, {"a": ours, "b": ours}),), "int8")


def test_a_loss_that_is_nan_is_refused() -> None:
    with pytest.raises(AccuracyError):
        require_small((LossChange("x", {"a": 1.0}, {"a": float("nan")}),), "int8")


def test_the_quantile_loss() -> None:
    """At level 0.9 a forecast 1 below costs 0.9, one 1 above 0.1; twice that, over the mean size 2."""
    levels = len(quantile_loss.LEVELS)
    actual = np.array([[2.0, np.nan]])
    below, above = np.full((1, 2, levels), 1.0), np.full((1, 2, levels), 3.0)
    for forecast, level_cost in ((below, np.arange(1, 10) / 10), (above, 1 - np.arange(1, 10) / 10)):
        assert weighted_quantile_loss(forecast, actual) == pytest.approx(2 * level_cost.mean() / 2)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), non_negative=st.booleans())
def test_a_quantized_product_is_off_by_half_steps_only(seed: int, non_negative: bool) -> None:
    random = np.random.default_rng(seed)
    x = (random.standard_normal((2, 5, 24)) * 10.0 ** random.integers(-6, 6, (2, 5, 1))).astype(np.float32)
    weight = (random.standard_normal((24, 7)) * 10.0 ** random.integers(-3, 3, 7)).astype(np.float32)
    x[0, 0], weight[:, 0] = 0, 0
    x = np.abs(x) if non_negative else x
    found = product(x, weight, non_negative)
    step_x = np.abs(x).max(axis=2, keepdims=True) / (255 if non_negative else 127)
    step_weight = np.abs(weight).max(axis=0) / 127
    allowed = (
        step_x / 2 * np.abs(weight).sum(axis=0)
        + np.abs(x).sum(axis=2, keepdims=True) * step_weight / 2
        + 24 * step_x * step_weight / 4
    )
    assert (np.abs(found - x.astype(np.float64) @ weight) <= allowed * (1 + 1e-5) + 1e-30).all()


def test_a_row_does_not_depend_on_its_neighbours(artifacts: dict[str, Path]) -> None:
    session = OrtSession(artifacts["int8"])
    context = np.random.default_rng(0).standard_normal((4, 128), dtype=np.float32).cumsum(1)
    context[3] *= 1e6
    future = np.full((4, 16), np.nan, np.float32)
    together = session.run_univariate(context, future)
    alone = [session.run_univariate(context[n : n + 1], future[:1]) for n in range(4)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def product(x: np.ndarray, weight: np.ndarray, non_negative: bool) -> np.ndarray:
    """`quantized_product` alone on onnxruntime."""
    g = GraphBuilder(precision_of("int8"))
    quantized_product(g, "weight", "x", weight, non_negative)
    g.nodes[-1].output[0] = "y"
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        g.nodes,
        "product",
        [info("x", TensorProto.FLOAT, list(x.shape))],
        [info("y", TensorProto.FLOAT, [*x.shape[:2], weight.shape[1]])],
        list(g.initializers.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


class Rounded:
    """Upstream in bfloat16 as a session."""

    def __init__(self, model: Chronos2Model) -> None:
        self.model = model.to(torch.bfloat16)

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        patches = -(-future_covariates.shape[1] // 16)
        added = 16 * patches - future_covariates.shape[1]
        future = np.pad(future_covariates, ((0, 0), (0, added)), constant_values=np.nan)
        with torch.no_grad():
            out = self.model(
                context=torch.from_numpy(context),
                group_ids=torch.from_numpy(group_ids),
                future_covariates=torch.from_numpy(future),
                num_output_patches=patches,
            )
        return out.quantile_preds.float().numpy()

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        return self.run(context, np.arange(len(context)), future_covariates)


def rescaled(model: Chronos2Model, factor: float) -> Chronos2Model:
    """The same function, whose residual stream is `factor` times as large: the norms take it out again."""
    model = copy.deepcopy(model)
    ends = (".o.weight", ".wo.weight")
    starts = ("shared", "input_patch_embedding.output_layer", "input_patch_embedding.residual_layer")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(ends) or name.startswith(starts):
                weight *= factor
    return model


def verdict_of(model: Chronos2Model, session: Session) -> bool:
    cases = list(all_cases(16, 256, 8))
    return validate(model, {"x": session}, cases, precision_of("bfloat16")).passed


def test_another_rounding_of_the_same_model_passes() -> None:
    model = make_model("small")
    assert all(verdict_of(model, Rounded(rescaled(model, factor))) for factor in (1.07, 1.31))


def test_a_coarser_rounding_does_not_pass() -> None:
    model = make_model("small")
    coarse = copy.deepcopy(model)
    with torch.no_grad():
        for weight in coarse.parameters():
            step = weight.abs().amax() / 7
            weight.copy_((weight / step).round() * step)
    assert not verdict_of(model, Rounded(coarse))
