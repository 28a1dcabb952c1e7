"""Engines for TensorRT-RTX, built here with no GPU, and everything that must stop a build."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.engine import building as engine
from chronos_export.engine import worker as engine_worker
from chronos_export.engine.building import build_engine
from chronos_export.engine.requirements import RTX_DEFAULT
from chronos_export.engine.source_graph import read_graph
from chronos_export.engine.worker import Job
from chronos_export.errors import BuildError, MachineError, UsageError
from chronos_export.exporting.export import write_graphs
from chronos_export.graph.precision import precision_of
from chronos_export.progress import Event
from tests.helpers.engines import make_graph, needs_rtx, without_tensorrt

pytestmark = needs_rtx


def build(graph: Path, folder: Path, profiles: tuple[int, ...] = (3, 5), **options: Any) -> EngineInfo:
    return build_engine(graph, profiles, runtime="tensorrt-rtx", output=folder / "a.plan", **options)


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
    assert [(profile.rows, profile.context) for profile in info.profiles] == [(100, 512), (200, 512)]
    small, large = (profile.scratch_bytes for profile in info.profiles)
    assert small and large and 1.5 * small < large < 2.5 * small
    assert info.plugin_layers == 3
    assert info.compute_capabilities == RTX_DEFAULT
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
    sizes = read_graph(tmp_path / "model.onnx").sizes
    for profile in info.profiles:
        estimate = sizes.scratch(profile.rows, profile.context, info.horizon)
        assert profile.scratch_bytes <= estimate <= 1.4 * profile.scratch_bytes


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
        from chronos_export.engine import worker as engine_worker
        profiles = []
        def set_targets(trt, config, job, set_targets=engine_worker._set_targets):
            global tensorrt
            tensorrt = trt
            create = trt.Builder.create_optimization_profile
            keep = lambda self: profiles.append(create(self)) or profiles[-1]
            trt.Builder.create_optimization_profile = keep
            return set_targets(trt, config, job)
        class Probe(engine_worker.TimingCache):
            def __init__(self, config, file, runtime, version, warn):
                warn(f"TF32 is {config.get_flag(tensorrt.BuilderFlag.TF32)}")
                warn(f"{config.num_optimization_profiles} profiles")
                for profile in profiles:
                    names = "context", "group_ids", "future_covariates"
                    warn(str([[tuple(shape) for shape in profile.get_shape(name)] for name in names]))
                super().__init__(config, file, runtime, version, warn)
        engine_worker.TimingCache, engine_worker._set_targets = Probe, set_targets
        engine_worker.main()
    """
    monkeypatch.setattr(engine, "WORKER", [sys.executable, "-c", textwrap.dedent(probe)])
    events: list[Event] = []
    info = build(graph, tmp_path, (3, 5, 7), tf32=tf32, report=events.append)
    said = [event.message for event in events if event.fraction is None]
    assert said[4:] == [
        f"TF32 is {tf32}",
        "3 profiles",
        *(
            str(
                [[(1, 1), (n, 512), (n, 512)], [(1,), (n,), (n,)], [(1, 1), (n, 64), (n, 64)]]
            )  # least, typical, most
            for n in (3, 5, 7)
        ),
    ]
    # A plugin's field in the plan: its name, type, length and value.
    fields = re.findall(rb"allow_tf32\0.{8}(.{4})", info.path.read_bytes(), re.DOTALL)
    assert set(fields) == {int(tf32).to_bytes(4, "little")}


def test_what_must_agree_is_recorded(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver and the plugin library of this machine, which TensorRT-RTX's own builds do without."""

    def run(job: Job, running: Any) -> dict[str, Any]:
        Path(job.plan).write_bytes(b"vtrt")
        made = {"tensorrt_version": "1.7.1", "compute_capabilities": ["8.6"], "scratch_bytes": []}
        return {**made, "plugin_layers": 2, "peak_rss_bytes": 7}

    monkeypatch.setattr(engine, "run_job", run)
    monkeypatch.setattr(engine, "driver_version", lambda: "580.65.06")
    (tmp_path / "plugin.so").write_bytes(b"a plugin")
    info = build(graph, tmp_path, plugin=tmp_path / "plugin.so")
    assert info.driver == "580.65.06"
    assert info.plugin_sha256 == sha256(b"a plugin").hexdigest()
    body = build(graph, tmp_path, plugin=tmp_path / "plugin.so", attention="body")
    assert body.plugin_sha256 is None


@pytest.mark.parametrize(("members", "flags"), [({"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}, 2), ({}, 0)])
def test_networks_are_strongly_typed(members: dict[str, int], flags: int) -> None:
    """A choice in TensorRT 10; from 11 on, and in TensorRT-RTX, there is nothing else."""
    kinds = IntEnum("NetworkDefinitionCreationFlag", members)
    assert engine_worker._network_flags(SimpleNamespace(NetworkDefinitionCreationFlag=kinds)) == flags


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
    with pytest.raises(UsageError, match="how long its context may be"):
        build(graph, tmp_path)
    with pytest.raises(UsageError, match="how long its horizon may be"):
        build(graph, tmp_path, context=32)
    assert build(graph, tmp_path, context=32, horizon=16).context == 32


def test_a_compute_capability_that_cannot_be_built_for(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"9\.0") as raised:
        build(graph, tmp_path, compute_capabilities=["8.6", "9.0"])
    assert "8.6" in raised.value.allowed
    assert only_the_graph_is_in(tmp_path)


def test_unknown_target(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tensorflow"):
        build_engine(graph, [1], runtime="tensorflow", output=tmp_path / "a.plan")


@without_tensorrt
def test_tensorrt_is_not_installed(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="tensorrt needs tensorrt-cu13, which is not installed") as raised:
        build_engine(graph, [1], runtime="tensorrt", output=tmp_path / "a.plan")
    assert raised.value.fix == "pip install 'tensorrt-cu13>=10.13'"


def test_no_graph(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        build(tmp_path / "model.onnx", tmp_path)


def test_not_a_graph(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(BuildError, match="not an ONNX file"):
        build(tmp_path / "model.onnx", tmp_path)


def test_a_graph_without_the_node(tmp_path: Path) -> None:
    graph = make_graph(tmp_path / "model.onnx", blocks=0)
    with pytest.raises(BuildError, match="0 chronos::GroupAttention nodes"):
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
        "from chronos_export.engine import worker as engine_worker;"
        "from chronos_export.machine import tensorrt_plugin as trt_plugin;"
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
