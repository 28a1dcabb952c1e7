"""The types on a CPU: proven, judged by the loss on real series, loaded where they run, proven by others."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from chronos.chronos2 import Chronos2Model

from chronos_export import load
from chronos_export.artifact.reading import open_artifact
from chronos_export.engine.choice import EngineOptions
from chronos_export.errors import AccuracyError, MachineError
from chronos_export.exporting.export import export
from chronos_export.graph.precision import precision_of
from chronos_export.graph_contract import WEIGHTS
from chronos_export.machine.packages import is_installed
from chronos_export.pipeline.model import SessionModel
from chronos_export.runtime import cpu_runtimes
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.openvino_session import OpenVinoSession
from chronos_export.runtime.session import Session
from chronos_export.validation import quantile_loss
from chronos_export.validation.cases import all_cases
from chronos_export.validation.comparison import validate
from chronos_export.validation.quantile_loss import LossChange, require_small, weighted_quantile_loss
from chronos_export.validation.tolerance import with_scaled_stream
from tests.helpers.checkpoints import make_model
from tests.helpers.engines import needs_rtx
from tests.helpers.published import copy_without_restored_order, printed_commands, run_printed
from tests.helpers.upstream import UpstreamSession

SESSIONS = {"float16": OrtSession, "bfloat16": OpenVinoSession, "int8": OrtSession}
EXACT = ("float32", pytest.param("tf32", marks=needs_rtx))


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo checkpoint in every type."""
    folder = tmp_path_factory.mktemp("narrow")
    made = {
        dtype: export("demo", output=folder / dtype, dtype=dtype).path for dtype in ("float32", *SESSIONS)
    }
    if is_installed("tensorrt-rtx"):
        engine = EngineOptions("tensorrt-rtx", attention="none", context=64, horizon=16)
        made["tf32"] = export("demo", (4,), folder / "tf32", dtype="tf32", engine=engine).path
    return made


@pytest.mark.parametrize("dtype", SESSIONS)
def test_is_proven_and_judged_on_real_series(dtype: str, artifacts: dict[str, Path]) -> None:
    manifest = open_artifact(artifacts[dtype]).manifest
    (loss,) = manifest.validation["quantile_loss"]
    assert manifest.dtype == dtype
    assert manifest.validation["passed"]
    assert 0 < abs(loss["change"]) < quantile_loss.LARGEST_CHANGE
    runtime = "openvino" if dtype == "bfloat16" else "onnxruntime"
    said = f"cases forecast within {dtype}'s limits ({runtime} validated)"
    assert manifest.validation["sentence"].endswith(said)
    assert said in (artifacts[dtype] / "README.md").read_text()


@pytest.mark.parametrize("dtype", SESSIONS)
def test_loads_where_it_was_proven(dtype: str, artifacts: dict[str, Path]) -> None:
    series = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)).cumsum(1)
    pipeline, exact = load(artifacts[dtype]), load(artifacts["float32"])
    assert isinstance(pipeline.model, SessionModel)
    assert isinstance(pipeline.model.session, SESSIONS[dtype])
    found, expected = (p.predict([series], prediction_length=40)[0] for p in (pipeline, exact))
    difference = ((found - expected).abs().amax(dim=(1, 2)) / series.std(dim=1)).max()
    assert 1e-5 < difference < 0.5


@pytest.mark.parametrize("dtype", EXACT)
def test_float32_is_not_judged(dtype: str, artifacts: dict[str, Path]) -> None:
    assert open_artifact(artifacts[dtype]).manifest.validation["quantile_loss"] == []


@pytest.mark.parametrize("dtype", [*EXACT, *SESSIONS])
def test_what_its_readme_prints_proves_it_again(dtype: str, artifacts: dict[str, Path]) -> None:
    """onnxruntime has no products in bfloat16 on a CPU, so nothing is printed that would need them."""
    commands = printed_commands(artifacts[dtype])
    assert commands == open_artifact(artifacts[dtype]).manifest.validation["again"]
    tools = [command.split()[0] for command in commands]
    assert tools == ["chronos-export"] if dtype == "bfloat16" else ["chronos-export", "polygraphy"]
    for command in commands:
        done = run_printed(command, artifacts[dtype])
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_what_its_readme_prints_refuses_another_model(
    dtype: str, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    wrong = copy_without_restored_order(artifacts[dtype], tmp_path / "wrong")
    polygraphy = next(command for command in printed_commands(wrong) if command.startswith("polygraphy"))
    done = run_printed(polygraphy, wrong)
    assert done.returncode != 0
    assert "FAILED" in done.stdout + done.stderr


def test_weights_take_less_room(artifacts: dict[str, Path]) -> None:
    size = {dtype: (path / WEIGHTS).stat().st_size for dtype, path in artifacts.items()}
    assert size["int8"] < size["bfloat16"] < 0.65 * size["float32"]


def test_bfloat16_needs_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_runtimes, "is_installed", lambda package: package != "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MachineError, match="bfloat16 on a CPU needs openvino, which is not") as error:
        export("demo", output=tmp_path / "narrow", dtype="bfloat16")
    assert "pip install 'openvino>=" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_without_real_series_nothing_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(MachineError, match="statsmodels, which is not installed"):
        export("demo", output=tmp_path / "narrow", dtype="int8")
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


def in_bfloat16(model: Chronos2Model) -> UpstreamSession:
    return UpstreamSession(model.to(torch.bfloat16))


def verdict_of(model: Chronos2Model, session: Session) -> bool:
    cases = list(all_cases(16, 256, 8))
    return validate(model, {"x": session}, cases, precision_of("bfloat16")).passed


def test_another_rounding_of_the_same_model_passes() -> None:
    model = make_model("small")
    assert all(verdict_of(model, in_bfloat16(with_scaled_stream(model, factor))) for factor in (1.13, 0.77))


def test_a_coarser_rounding_does_not_pass() -> None:
    model = make_model("small")
    coarse = copy.deepcopy(model)
    with torch.no_grad():
        for weight in coarse.parameters():
            step = weight.abs().amax() / 7
            weight.copy_((weight / step).round() * step)
    assert not verdict_of(model, in_bfloat16(coarse))
