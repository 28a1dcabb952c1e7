"""Engines for TensorRT-RTX, built here with no GPU, and everything that must stop a build."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chronos_export import engine
from chronos_export.checkpoint import load_checkpoint
from chronos_export.engine import RTX_COMPUTE_CAPABILITIES, build_engine
from chronos_export.engine_info import EngineInfo
from chronos_export.errors import BuildError, MachineError, UsageError
from chronos_export.exporting import write_graphs
from chronos_export.precision import precision_of
from chronos_export.progress import Event
from chronos_export.trt_libraries import is_installed
from engines import make_graph

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="builds engines: pip install 'chronos-export[rtx]'",
)


def build(graph: Path, folder: Path, profiles: tuple[int, ...] = (3, 5), **options: Any) -> EngineInfo:
    return build_engine(graph, profiles, target="tensorrt-rtx", output=folder / "a.plan", **options)


def only_the_graph_is_in(folder: Path) -> bool:
    return [path.name for path in folder.iterdir()] == ["model.onnx"]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return make_graph(tmp_path / "model.onnx")


@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16"])
def test_one_plan_with_a_profile_per_row_count(tmp_path: Path, dtype: str) -> None:
    graph = make_graph(tmp_path / "model.onnx", blocks=3, dtype=dtype)
    events: list[Event] = []
    info = build(graph, tmp_path, (100, 200), report=events.append)

    assert info.path.read_bytes().startswith(b"vtrt")
    assert info.bytes == info.path.stat().st_size
    assert info.profiles == (100, 200)
    assert info.plugin_layers == 3
    assert info.compute_capabilities == RTX_COMPUTE_CAPABILITIES
    assert (info.context, info.horizon) == (512, 64)  # the model's own limits
    assert info.tensorrt_version == importlib.metadata.version("tensorrt_rtx")
    assert 0 < info.build_seconds < 600
    # TensorRT-RTX's library alone is 234 MB on disk; anything below 50 MB was not measured in the worker.
    assert 50e6 < info.peak_rss_bytes < 8e9
    fractions = [event.fraction for event in events if event.fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(set(fractions)) > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.plan", "model.onnx"]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_demo_model_becomes_an_engine(tmp_path: Path, dtype: str) -> None:
    checkpoint = load_checkpoint("demo")
    write_graphs(checkpoint, tmp_path, precision_of(dtype))
    info = build(
        tmp_path / "model.onnx", tmp_path, (100, 200), context=512, horizon=64, compute_capabilities=["8.6"]
    )
    assert info.plugin_layers == checkpoint.config["num_layers"]
    assert info.profiles == (100, 200)


def test_the_plan_depends_on_the_compute_capabilities(graph: Path, tmp_path: Path) -> None:
    sizes = set()
    for wanted in (["8.6"], ["12.0"], ["8.6", "12.0"]):
        info = build(graph, tmp_path, compute_capabilities=wanted)
        assert info.compute_capabilities == tuple(wanted)
        sizes.add(info.bytes)
    assert len(sizes) == 3
    assert build(graph, tmp_path, compute_capabilities=["8.6", "12.0"]).bytes in sizes


@pytest.mark.parametrize("tf32", [False, True])
def test_the_builder_is_told_of_profiles_and_tf32(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tf32: bool
) -> None:
    """Read where the build has set up everything. TensorRT's own default for tf32 is on."""
    probe = """
        from chronos_export import engine_worker
        class Probe(engine_worker._Cache):
            def __init__(self, trt, config, job, say):
                say(warning=f"TF32 is {config.get_flag(trt.BuilderFlag.TF32)}")
                say(warning=f"{config.num_optimization_profiles} profiles")
                super().__init__(trt, config, job, say)
        engine_worker._Cache = Probe
        engine_worker.main()
    """
    monkeypatch.setattr(engine, "WORKER", [sys.executable, "-c", textwrap.dedent(probe)])
    events: list[Event] = []
    info = build(graph, tmp_path, (3, 5, 7), tf32=tf32, report=events.append)
    assert {f"TF32 is {tf32}", "3 profiles"} <= {event.message for event in events}
    # A plugin's field in the plan: its name, type, length and value.
    fields = re.findall(rb"allow_tf32\0.{8}(.{4})", info.path.read_bytes(), re.DOTALL)
    assert set(fields) == {int(tf32).to_bytes(4, "little")}


@pytest.mark.parametrize("profiles", [(), (0,), (-1,), (100, 100)])
def test_row_counts_that_cannot_be(graph: Path, tmp_path: Path, profiles: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="row counts"):
        build(graph, tmp_path, profiles)


@pytest.mark.parametrize(
    "limits", [{"context": 513}, {"context": 0}, {"horizon": 65}, {"horizon": -16}, {"context": 10**9}]
)
def test_limits_beyond_the_model(graph: Path, tmp_path: Path, limits: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(limits))} {next(iter(limits.values()))}"):
        build(graph, tmp_path, **limits)
    assert only_the_graph_is_in(tmp_path)


def test_limits_a_graph_does_not_state_must_be_given(tmp_path: Path) -> None:
    graph = make_graph(tmp_path / "model.onnx", limits=None)
    with pytest.raises(UsageError, match="context"):
        build(graph, tmp_path)
    assert build(graph, tmp_path, context=32, horizon=16).context == 32


def test_a_compute_capability_that_cannot_be_built_for(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"9\.0") as raised:
        build(graph, tmp_path, compute_capabilities=["8.6", "9.0"])
    assert "8.6" in raised.value.allowed
    assert only_the_graph_is_in(tmp_path)


def test_unknown_target(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tensorflow"):
        build_engine(graph, [1], target="tensorflow", output=tmp_path / "a.plan")


@pytest.mark.skipif(is_installed("tensorrt"), reason="TensorRT is installed here")
def test_tensorrt_is_not_installed(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="tensorrt is not installed") as raised:
        build_engine(graph, [1], target="tensorrt", output=tmp_path / "a.plan")
    assert raised.value.fix == "pip install 'chronos-export[tensorrt]'"


def test_no_graph(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        build(tmp_path / "model.onnx", tmp_path)


def test_not_a_graph(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(BuildError, match="not an ONNX file"):
        build(tmp_path / "model.onnx", tmp_path)


def test_a_graph_without_the_node(tmp_path: Path) -> None:
    graph = make_graph(tmp_path / "model.onnx", blocks=0)
    with pytest.raises(BuildError, match="no chronos::GroupAttention node"):
        build(graph, tmp_path)


def test_a_graph_with_other_inputs(tmp_path: Path) -> None:
    graph = make_graph(tmp_path / "model.onnx", context="history")
    with pytest.raises(BuildError, match="history"):
        build(graph, tmp_path)


@pytest.mark.parametrize("attributes", ["", ', plugin_namespace = "elsewhere", plugin_version = "1"'])
def test_a_body_built_in_place_of_the_plugin_is_an_error(tmp_path: Path, attributes: str) -> None:
    """TensorRT takes the function body without a word when it does not recognize the node."""
    graph = make_graph(tmp_path / "model.onnx", attributes=attributes, identity_body=True)
    with pytest.raises(BuildError, match=r"2 GroupAttention nodes.* 0 plugin layers.*2 IDENTITY"):
        build(graph, tmp_path)
    assert only_the_graph_is_in(tmp_path)


def test_an_unregistered_plugin_is_an_error(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug planted: a worker that forgets to register."""
    make_graph(graph, identity_body=True)
    plant = (
        "from chronos_export import engine_worker, trt_plugin;"
        "trt_plugin.register = lambda trt, library: None;"
        "engine_worker.main()"
    )
    monkeypatch.setattr(engine, "WORKER", [sys.executable, "-c", plant])
    with pytest.raises(BuildError, match="0 plugin layers"):
        build(graph, tmp_path)


@pytest.mark.parametrize(("heads", "head_dim"), [(3, 20), (1, 136), (5, 4)])
def test_heads_the_kernel_does_not_have(tmp_path: Path, heads: int, head_dim: int) -> None:
    graph = make_graph(tmp_path / "model.onnx", heads=heads, head_dim=head_dim)
    with pytest.raises(BuildError, match=f"not {heads} heads in a width of {heads * head_dim}"):
        build(graph, tmp_path)


@pytest.mark.parametrize(
    ("death", "told"),
    [("os.abort()", "signal 6"), ("os.kill(os.getpid(), 9)", "memory ran out"), ("sys.exit(7)", "code 7")],
)
def test_a_worker_that_dies(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: str, told: str
) -> None:
    plant = f"import os, sys; print('last words', file=sys.stderr, flush=True); {death}"
    monkeypatch.setattr(engine, "WORKER", [sys.executable, "-c", plant])
    with pytest.raises(BuildError, match=rf"(?s){told}.*last words"):
        build(graph, tmp_path)
    assert only_the_graph_is_in(tmp_path)


def test_a_failed_build_leaves_the_old_plan(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "a.plan").write_bytes(b"old")
    with pytest.raises(UsageError):
        build(graph, tmp_path, compute_capabilities=["9.0"])
    assert (tmp_path / "a.plan").read_bytes() == b"old"


def test_two_builds_of_one_plan_at_once(graph: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(build, graph, tmp_path) for _ in range(2)]
        sizes = [job.result().bytes for job in jobs]
    assert sizes == [(tmp_path / "a.plan").stat().st_size] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.plan", "model.onnx"]


def test_tensorrt_rtx_has_no_timing_cache(graph: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    build(graph, tmp_path, timing_cache=tmp_path / "timings", report=events.append)
    assert any("timing cache not used" in event.message for event in events)
    assert not (tmp_path / "timings").exists()


def test_polygraphy_builds_the_plugin_too(graph: Path, tmp_path: Path) -> None:
    shapes = ["context:[3,32]", "group_ids:[3]", "future_covariates:[3,16]"]
    options = [part for bound in ("min", "opt", "max") for part in (f"--trt-{bound}-shapes", *shapes)]
    command = [sys.executable, "-m", "chronos_export.trt_polygraphy", "convert", str(graph)]
    command += ["--convert-to", "trt", "-o", str(tmp_path / "a.plan"), *options]
    command += ["--compute-capabilities", "8.6"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert b"num_heads" in (tmp_path / "a.plan").read_bytes()


@pytest.fixture
def slow_build(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that has begun to build an engine, which takes it 10 s or more."""
    make_graph(tmp_path / "model.onnx", blocks=60, product=True)
    script = f"""
        from pathlib import Path
        from chronos_export.engine import build_engine
        folder = Path({str(tmp_path)!r})
        seen = lambda event: print(event.message, flush=True)
        build_engine(folder / "model.onnx", list(range(1, 9)), target="tensorrt-rtx",
                     output=folder / "a.plan", report=seen)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    while "Optimizing graph" not in process.stdout.readline():
        assert process.poll() is None
    return process


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_ctrl_c_stops_promptly_and_leaves_nothing(slow_build: subprocess.Popen[str], tmp_path: Path) -> None:
    (worker,) = children_of(slow_build.pid)
    begin = time.perf_counter()
    slow_build.send_signal(signal.SIGINT)
    slow_build.communicate(timeout=60)
    assert time.perf_counter() - begin < 3
    assert slow_build.returncode == -signal.SIGINT
    assert not is_alive(worker)
    assert only_the_graph_is_in(tmp_path)


def test_a_killed_parent_takes_its_worker_along(slow_build: subprocess.Popen[str], tmp_path: Path) -> None:
    (worker,) = children_of(slow_build.pid)
    os.kill(slow_build.pid, signal.SIGKILL)
    slow_build.communicate(timeout=60)
    deadline = time.perf_counter() + 5
    while is_alive(worker) and time.perf_counter() < deadline:
        time.sleep(0.05)
    assert not is_alive(worker)
    assert not (tmp_path / "a.plan").exists()
