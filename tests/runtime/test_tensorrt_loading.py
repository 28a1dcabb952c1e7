"""What must hold before a plan is deserialized, each broken in turn: TensorRT is then never asked.

Deserializing needs a GPU, so a stand-in for TensorRT records what it is asked to deserialize.
"""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chronos_export.artifact.engine_info import EngineInfo, Profile
from chronos_export.engine.building import build_engine
from chronos_export.errors import IntegrityError, MachineError
from chronos_export.machine import tensorrt_plugin as trt_plugin
from chronos_export.runtime import tensorrt_loading as engine_load
from chronos_export.runtime.tensorrt_loading import LoadedEngine, load_engine
from tests.helpers.engines import make_graph, needs_rtx, without_gpu

PLAN = b"vtrt" + bytes(range(256)) * 16
DIGEST = sha256(PLAN).hexdigest()
REBUILD = "chronos-export --model demo --batch 100 --runtime tensorrt-rtx"


class Machine:
    """A machine with a GPU and a TensorRT that records what it is asked to deserialize."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deserialized: list[bytes] = []
        self.answer: Any = object()
        self.trt = SimpleNamespace(
            __version__="1.7.1",
            Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda self, severity: None}),
            Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=self._deserialize),
        )
        monkeypatch.setattr(engine_load, "import_tensorrt", lambda runtime: self.trt)
        monkeypatch.setattr(engine_load, "device_capability", lambda: "8.6")
        monkeypatch.setattr(engine_load, "driver_version", lambda: "580.65.06")
        monkeypatch.setattr(trt_plugin, "register", lambda trt, library: library)

    def _deserialize(self, plan: bytes) -> Any:
        self.deserialized.append(plan)
        return self.answer


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def info(tmp_path: Path) -> EngineInfo:
    (tmp_path / "a.plan").write_bytes(PLAN)
    return EngineInfo(
        path=tmp_path / "a.plan",
        graph="model.onnx",
        runtime="tensorrt-rtx",
        attention="plugin",
        tensorrt_version="1.7.1",
        compute_capabilities=("8.0", "8.6"),
        driver="580.65.06",
        plugin_sha256=None,
        profiles=(Profile(100, 512),),
        horizon=64,
        memory=2**30,
        plugin_layers=2,
        bytes=len(PLAN),
        build_seconds=1.0,
        peak_rss_bytes=1,
    )


def load(info: EngineInfo, digest: str = DIGEST, plugin: Path | None = Path("plugin.so")) -> LoadedEngine:
    return load_engine(info, digest, plugin, REBUILD)


def test_what_was_built_is_loaded(machine: Machine, info: EngineInfo) -> None:
    loaded = load(info)
    assert loaded.engine is machine.answer
    assert loaded.keep[1] == Path("plugin.so")
    assert machine.deserialized == [PLAN]


@pytest.mark.parametrize("length", [0, 1, 64, len(PLAN) - 1])
def test_a_truncated_plan(machine: Machine, info: EngineInfo, length: int) -> None:
    info.path.write_bytes(PLAN[:length])
    with pytest.raises(IntegrityError, match="not the engine that was built") as raised:
        load(info)
    assert raised.value.allowed == DIGEST
    assert sha256(PLAN[:length]).hexdigest() in raised.value.summary
    assert raised.value.fix == REBUILD
    assert machine.deserialized == []


@pytest.mark.parametrize("index", [0, 5, 2000, len(PLAN) - 1])
def test_a_flipped_bit(machine: Machine, info: EngineInfo, index: int) -> None:
    info.path.write_bytes(PLAN[:index] + bytes([PLAN[index] ^ 4]) + PLAN[index + 1 :])
    with pytest.raises(IntegrityError):
        load(info)
    assert machine.deserialized == []


def test_a_missing_plan(machine: Machine, info: EngineInfo) -> None:
    info.path.unlink()
    with pytest.raises(IntegrityError, match="cannot be read: No such file"):
        load(info)


def test_another_gpu(machine: Machine, info: EngineInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_load, "device_capability", lambda: "9.0")
    with pytest.raises(MachineError, match=r"8\.0, 8\.6, and this machine has 9\.0") as raised:
        load(info)
    assert raised.value.fix == REBUILD
    assert machine.deserialized == []


def test_no_gpu(machine: Machine, info: EngineInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_load, "device_capability", lambda: None)
    with pytest.raises(MachineError, match="has no GPU"):
        load(info)
    assert machine.deserialized == []


def test_another_tensorrt(machine: Machine, info: EngineInfo) -> None:
    with pytest.raises(MachineError, match=r"1\.6\.0; installed is 1\.7\.1") as raised:
        load(replace(info, tensorrt_version="1.6.0"))
    assert raised.value.fix == REBUILD
    assert machine.deserialized == []


def test_no_plugin(machine: Machine, info: EngineInfo) -> None:
    with pytest.raises(MachineError, match="no plugin library was given") as raised:
        load(info, plugin=None)
    assert raised.value.fix == "chronos-export plugin build"
    assert machine.deserialized == []


@pytest.mark.parametrize(("driver", "refused"), [("580.9", True), ("535.261.03", True), ("590.1", False)])
def test_another_driver(
    machine: Machine, info: EngineInfo, monkeypatch: pytest.MonkeyPatch, driver: str, refused: bool
) -> None:
    """A plan runs under newer drivers than it was built under, not under older ones."""
    monkeypatch.setattr(engine_load, "driver_version", lambda: driver)
    if not refused:
        load(info)
        return
    with pytest.raises(MachineError, match=rf"driver 580\.65\.06.* older {re.escape(driver)}") as raised:
        load(info)
    assert raised.value.fix == REBUILD
    assert machine.deserialized == []


def test_another_plugin(machine: Machine, info: EngineInfo, tmp_path: Path) -> None:
    (tmp_path / "plugin.so").write_bytes(b"rebuilt since")
    found, wanted = sha256(b"rebuilt since").hexdigest(), sha256(b"as it was").hexdigest()
    with pytest.raises(MachineError, match=f"{wanted}.* has {found}") as raised:
        load(replace(info, plugin_sha256=wanted), plugin=tmp_path / "plugin.so")
    assert raised.value.fix == REBUILD
    assert machine.deserialized == []
    load(replace(info, plugin_sha256=found), plugin=tmp_path / "plugin.so")
    assert machine.deserialized == [PLAN]


def test_an_engine_of_standard_operators_needs_no_plugin(machine: Machine, info: EngineInfo) -> None:
    assert load(replace(info, attention="body"), plugin=None).keep[1] is None


def test_tensorrt_refuses(machine: Machine, info: EngineInfo) -> None:
    machine.answer = None
    with pytest.raises(MachineError, match=r"1\.7\.1 refuses"):
        load(info)


@needs_rtx
@without_gpu
def test_a_real_plan_on_a_machine_without_a_gpu(tmp_path: Path) -> None:
    graph = make_graph(tmp_path / "model.onnx")
    info = build_engine(graph, [3], runtime="tensorrt-rtx", output=tmp_path / "a.plan")
    with pytest.raises(MachineError, match=r"8\.0, 8\.6, 8\.9, 12\.0, and this machine has no GPU"):
        load(info, sha256(info.path.read_bytes()).hexdigest())
