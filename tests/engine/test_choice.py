"""Which engine an export builds, and that it says why when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chronos_export.engine import choice as targets
from chronos_export.engine import requirements
from chronos_export.engine.building import build_engines
from chronos_export.engine.choice import EngineOptions, choose, require
from chronos_export.engine.requirements import RTX_CAPABILITIES, RTX_DEFAULT
from chronos_export.errors import MachineError, UsageError
from chronos_export.graph.precision import precision_of
from chronos_export.machine.compiled import PLUGIN_NAME
from chronos_export.machine.tensorrt import MODULES
from tests.helpers.engines import make_graph, needs_rtx, without_gpu

FLOAT32 = precision_of("float32")
ROWS = (100,)


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
    assert "--runtime tensorrt-rtx --batch 100" in why
    assert choose(EngineOptions(), ROWS)[1].startswith("no engine, so --batch had no effect: ")


def test_auto_without_row_counts(gpu: Any) -> None:
    gpu("8.9", *MODULES)
    assert choose(EngineOptions()) == (
        None,
        "no engine: none was asked for (--batch 100 builds one for compute capability 8.9)",
    )


BOTH = ("tensorrt", "tensorrt-rtx")
NO_TENSORRT, NO_RTX = "tensorrt is not installed", "tensorrt-rtx is not installed"
NO_PLUGIN = "tensorrt needs the plugin (chronos-export plugin build)"
NO_HOPPER = "tensorrt-rtx does not build for compute capability 9.0"


@pytest.mark.parametrize(
    ("capability", "installed", "chosen", "told"),
    [
        ("8.6", (), None, f"no engine, so --batch had no effect: {NO_TENSORRT}; {NO_RTX}"),
        ("8.6", ("tensorrt-rtx",), "tensorrt-rtx", f"tensorrt-rtx for compute capability 8.6; {NO_TENSORRT}"),
        ("9.0", ("tensorrt-rtx",), None, f"no engine, so --batch had no effect: {NO_TENSORRT}; {NO_HOPPER}"),
        ("9.0", ("tensorrt",), None, f"no engine, so --batch had no effect: {NO_PLUGIN}; {NO_RTX}"),
        ("8.9", BOTH, "tensorrt-rtx", f"tensorrt-rtx for compute capability 8.9; {NO_PLUGIN}"),
    ],
)
def test_auto_with_a_gpu(
    gpu: Any, capability: str, installed: tuple[str, ...], chosen: str | None, told: str
) -> None:
    """One line: what is built, and why each of the others is not."""
    gpu(capability, *installed)
    assert choose(EngineOptions(), ROWS) == (chosen, told)


def test_auto_prefers_tensorrt_once_its_plugin_is_built(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu("9.0", "tensorrt", "tensorrt-rtx")
    assert choose(EngineOptions(attention="body"), ROWS)[0] == "tensorrt"
    monkeypatch.setattr(targets, "plugin_library", lambda: Path(PLUGIN_NAME))
    assert choose(EngineOptions(), ROWS) == (
        "tensorrt",
        f"tensorrt for compute capability 9.0; {NO_HOPPER}",
    )
    gpu("8.9", *BOTH)
    runtime, why = choose(EngineOptions(attention="body"), ROWS)
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
    make_graph(tmp_path / "univariate.onnx", blocks=0, univariate=True)
    built = build_engines(tmp_path, [3], EngineOptions(), FLOAT32, report=lambda event: None)
    assert [(info.graph, info.path.name, info.attention) for info in built] == [
        ("model.onnx", "tensorrt-rtx.plan", "plugin"),
        ("univariate.onnx", "tensorrt-rtx-univariate.plan", "none"),
    ]
    assert all(info.compute_capabilities == ("8.9",) for info in built)


@needs_rtx
def test_an_engine_for_univariate_rows_alone(tmp_path: Path) -> None:
    make_graph(tmp_path / "univariate.onnx", blocks=0, univariate=True)
    options = EngineOptions("tensorrt-rtx", attention="none", compute_capabilities=["8.9"])
    (info,) = build_engines(tmp_path, [3], options, FLOAT32, report=lambda event: None)
    assert (info.graph, info.plugin_layers, info.plugin_sha256) == ("univariate.onnx", 0, None)


@without_gpu
def test_nothing_is_built_without_a_target(tmp_path: Path) -> None:
    assert build_engines(tmp_path, [3], EngineOptions(), FLOAT32, report=lambda event: None) == []
    assert list(tmp_path.iterdir()) == []


# ---- a runtime that is named and cannot be had ----


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT and a GPU; no plugin."""
    monkeypatch.setattr(requirements, "require_installed", lambda runtime: runtime)
    monkeypatch.setattr(requirements, "device_capability", lambda: "9.0")
    monkeypatch.setattr(targets, "plugin_library", lambda: None)


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    require(EngineOptions("tensorrt", attention="body"), ROWS)
    monkeypatch.setattr(requirements, "device_capability", lambda: None)
    with pytest.raises(MachineError, match="this machine has none") as raised:
        require(EngineOptions("tensorrt", attention="body"), ROWS)
    assert "--runtime tensorrt-rtx" in raised.value.allowed


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_needs_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match="no plugin library was given") as raised:
        require(EngineOptions("tensorrt"), ROWS)
    assert raised.value.fix == "chronos-export plugin build"
    monkeypatch.setattr(targets, "plugin_library", lambda: Path(PLUGIN_NAME))
    require(EngineOptions("tensorrt"), ROWS)


@pytest.mark.usefixtures("tensorrt")
def test_an_engine_for_univariate_rows_needs_no_plugin() -> None:
    require(EngineOptions("tensorrt", attention="none"), ROWS)


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_builds_for_no_other_gpu() -> None:
    with pytest.raises(UsageError, match=r"not for 8\.6"):
        require(EngineOptions("tensorrt", compute_capabilities=["8.6"]), ROWS)


def test_auto_builds_no_engine_in_int8() -> None:
    assert choose(EngineOptions(), dtype="int8") == (None, "no engine: int8 is for CPUs")


# ---- what would have no effect ----

WITHOUT_EFFECT = {
    "--context": {"context": 64},
    "--horizon": {"horizon": 16},
    "--attention": {"attention": "plugin"},
    "--compute-capability": {"compute_capabilities": ("8.9",)},
    "--timing-cache": {"timing_cache": Path("cache")},
}


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("auto", marks=without_gpu)])
def test_an_option_that_only_an_engine_heeds(runtime: str, name: str) -> None:
    options = EngineOptions(runtime, **WITHOUT_EFFECT[name])
    with pytest.raises(UsageError, match=f"{name} would have no effect") as raised:
        require(options, ())
    assert raised.value.fix == "leave it out, or build one: --runtime tensorrt-rtx --batch 100"


def test_row_counts_without_an_engine() -> None:
    """Named, they contradict the runtime; with `auto` they are a wish."""
    with pytest.raises(UsageError, match="--batch would have no effect") as raised:
        require(EngineOptions("onnxruntime"), (3, 5))
    assert raised.value.fix.endswith("--runtime tensorrt-rtx --batch 3,5")
    require(EngineOptions("onnxruntime"), ())


@without_gpu
def test_row_counts_are_a_wish_with_auto() -> None:
    require(EngineOptions(), (3, 5))


@without_gpu
def test_tf32_where_nothing_has_it() -> None:
    for runtime in ("auto", "onnxruntime"):
        with pytest.raises(UsageError, match="--dtype tf32 would have no effect"):
            require(EngineOptions(runtime), (), "tf32")


def test_int8_has_no_engine_to_be_told_of() -> None:
    with pytest.raises(UsageError, match="--context, --horizon would") as raised:
        require(EngineOptions(context=64, horizon=16), (), "int8")
    assert raised.value.fix == "leave them out"


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_without_row_counts(runtime: str) -> None:
    with pytest.raises(UsageError, match=f"{runtime} was asked for without --batch") as raised:
        require(EngineOptions(runtime), ())
    assert raised.value.fix == f"chronos-export --runtime {runtime} --batch 100"


def test_tensorrt_rtx_has_no_timings_to_keep() -> None:
    with pytest.raises(UsageError, match="--timing-cache has no effect"):
        require(EngineOptions("tensorrt-rtx", timing_cache=Path("cache")), ROWS)


# ---- what TensorRT-RTX builds for ----


@needs_rtx
@pytest.mark.parametrize("capability", ["7.5", "9.0", "10.0", "8", "8,9", "abc", "", "8.6 "])
def test_a_compute_capability_that_is_not_built_for(capability: str) -> None:
    with pytest.raises(UsageError, match="compute capability") as raised:
        require(EngineOptions("tensorrt-rtx", compute_capabilities=("8.6", capability)), ROWS)
    assert raised.value.allowed.startswith("8.0, 8.6, 8.9, 12.0")
    has_full_tensorrt = capability in ("9.0", "10.0")
    assert ("full TensorRT" in raised.value.allowed) == has_full_tensorrt
    assert (raised.value.fix == "chronos-export --runtime tensorrt --batch 100") == has_full_tensorrt


@needs_rtx
def test_a_compute_capability_given_twice() -> None:
    with pytest.raises(UsageError, match=r"8\.6 is given twice"):
        require(EngineOptions("tensorrt-rtx", compute_capabilities=("8.6", "8.6")), ROWS)


@needs_rtx
@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
def test_what_is_listed_is_built_for(tmp_path: Path, dtype: str) -> None:
    """Each of them, in every dtype: TensorRT-RTX lists more than it can build."""
    assert set(RTX_DEFAULT) < set(RTX_CAPABILITIES)
    make_graph(tmp_path / "model.onnx", dtype=dtype, product=True)
    make_graph(tmp_path / "univariate.onnx", blocks=0, univariate=True)
    options = EngineOptions("tensorrt-rtx", compute_capabilities=RTX_CAPABILITIES)
    built = build_engines(tmp_path, [3], options, FLOAT32, report=lambda event: None)
    assert [info.compute_capabilities for info in built] == [RTX_CAPABILITIES] * 2
