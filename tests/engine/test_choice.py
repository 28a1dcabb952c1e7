"""Which engine an export builds, and that it says why when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chronos_export.engine import building as engine
from chronos_export.engine import choice as targets
from chronos_export.engine.choice import EngineOptions, build_engines, choose, require
from chronos_export.errors import MachineError, UsageError
from chronos_export.graph.precision import precision_of
from chronos_export.machine.compiled import PLUGIN_NAME
from tests.helpers.engines import make_graph, needs_rtx, without_gpu

FLOAT32 = precision_of("float32")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Choose as on a machine with a GPU of this compute capability and these packages and no plugin."""

    def pretend(capability: str, *installed: str) -> None:
        monkeypatch.setattr(targets, "device_capability", lambda: capability)
        monkeypatch.setattr(targets, "is_installed", lambda runtime: runtime in installed)
        monkeypatch.setattr(targets, "plugin_library", lambda: None)

    return pretend


@without_gpu
def test_auto_without_a_gpu() -> None:
    runtime, why = choose(EngineOptions())
    assert runtime is None
    assert "no GPU" in why
    assert "--runtime tensorrt-rtx" in why


BOTH = ("tensorrt", "tensorrt-rtx")
NO_TENSORRT, NO_RTX = "tensorrt is not installed", "tensorrt-rtx is not installed"
NO_PLUGIN = "tensorrt needs the plugin (chronos-export plugin build)"
NO_HOPPER = "tensorrt-rtx does not build for compute capability 9.0"


@pytest.mark.parametrize(
    ("capability", "installed", "chosen", "told"),
    [
        ("8.6", (), None, f"no engine: {NO_TENSORRT}; {NO_RTX}"),
        ("8.6", ("tensorrt-rtx",), "tensorrt-rtx", f"tensorrt-rtx for compute capability 8.6; {NO_TENSORRT}"),
        ("9.0", ("tensorrt-rtx",), None, f"no engine: {NO_TENSORRT}; {NO_HOPPER}"),
        ("9.0", ("tensorrt",), None, f"no engine: {NO_PLUGIN}; {NO_RTX}"),
        ("8.9", BOTH, "tensorrt-rtx", f"tensorrt-rtx for compute capability 8.9; {NO_PLUGIN}"),
    ],
)
def test_auto_with_a_gpu(
    gpu: Any, capability: str, installed: tuple[str, ...], chosen: str | None, told: str
) -> None:
    """One line: what is built, and why each of the others is not."""
    gpu(capability, *installed)
    assert choose(EngineOptions()) == (chosen, told)


def test_auto_prefers_tensorrt_once_its_plugin_is_built(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu("9.0", "tensorrt", "tensorrt-rtx")
    assert choose(EngineOptions(attention="body"))[0] == "tensorrt"
    monkeypatch.setattr(targets, "plugin_library", lambda: Path(PLUGIN_NAME))
    assert choose(EngineOptions()) == (
        "tensorrt",
        f"tensorrt for compute capability 9.0; {NO_HOPPER}",
    )
    gpu("8.9", *BOTH)
    runtime, why = choose(EngineOptions(attention="body"))
    assert (runtime, why.partition("; ")[2]) == ("tensorrt", "tensorrt-rtx is not needed beside it")


def test_a_target_that_is_named_is_the_target() -> None:
    assert choose(EngineOptions(runtime="onnxruntime"))[0] is None
    for name in ("tensorrt", "tensorrt-rtx"):
        assert choose(EngineOptions(runtime=name))[0] == name
    with pytest.raises(UsageError, match="unknown runtime 'tensorflow'"):
        choose(EngineOptions(runtime="tensorflow"))


@needs_rtx
def test_auto_builds_for_this_gpu_alone(gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu("8.9", "tensorrt-rtx")
    make_graph(tmp_path / "model.onnx")
    (info,) = build_engines(tmp_path, [3], EngineOptions(), FLOAT32, report=lambda event: None)
    assert info.compute_capabilities == ("8.9",)


@without_gpu
def test_nothing_is_built_without_a_target(tmp_path: Path) -> None:
    assert build_engines(tmp_path, [3], EngineOptions(), FLOAT32, report=lambda event: None) == []
    assert list(tmp_path.iterdir()) == []


# ---- a runtime that is named and cannot be had ----


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT and a GPU; no plugin."""
    monkeypatch.setattr(engine, "require_installed", lambda runtime: runtime)
    monkeypatch.setattr(engine, "device_capability", lambda: "9.0")
    monkeypatch.setattr(targets, "plugin_library", lambda: None)


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    require(EngineOptions("tensorrt", attention="body"), FLOAT32)
    monkeypatch.setattr(engine, "device_capability", lambda: None)
    with pytest.raises(MachineError, match="this machine has none") as raised:
        require(EngineOptions("tensorrt", attention="body"), FLOAT32)
    assert "--runtime tensorrt-rtx" in raised.value.allowed


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_needs_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match="no plugin library was given") as raised:
        require(EngineOptions("tensorrt"), FLOAT32)
    assert raised.value.fix == "chronos-export plugin build"
    monkeypatch.setattr(targets, "plugin_library", lambda: Path(PLUGIN_NAME))
    require(EngineOptions("tensorrt"), FLOAT32)


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_builds_for_no_other_gpu() -> None:
    with pytest.raises(UsageError, match=r"not for 8\.6"):
        require(EngineOptions("tensorrt", compute_capabilities=["8.6"]), FLOAT32)


def test_auto_builds_no_engine_in_int8() -> None:
    assert choose(EngineOptions(), precision_of("int8")) == (None, "no engine: int8 is for CPUs")
