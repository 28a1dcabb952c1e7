"""Which runtime opens an artifact, and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import onnxruntime as ort
import pytest

import chronos_export
from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.artifact.reading import Artifact
from chronos_export.errors import MachineError, UsageError
from chronos_export.runtime import choice
from chronos_export.runtime.choice import choose
from tests.helpers.stand_in import INFO

Artifacts = Callable[[str], Artifact]
Facts = Callable[..., None]


@pytest.fixture
def artifact(artifact_of: Artifacts) -> Artifact:
    return artifact_of("toy")


@pytest.fixture
def with_engine(artifact: Artifact) -> Artifact:
    entry = replace(INFO, path=artifact.path / "engines" / "tensorrt.plan").as_entry(artifact.path)
    return replace(artifact, manifest=replace(artifact.manifest, engines=[entry]))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Facts:
    """Say what the machine has; nothing by itself."""

    def has(engine: str = "no GPU", capability: str | None = None, providers: tuple[str, ...] = ()) -> None:
        monkeypatch.setattr(choice, "why_not_here", lambda info: engine)
        monkeypatch.setattr(choice, "device_capability", lambda: capability)
        monkeypatch.setattr(ort, "get_available_providers", lambda: list(providers))

    has()
    return has


GPU = {"capability": "9.0", "providers": ("CUDAExecutionProvider",)}


def test_auto_takes_an_engine_that_runs_here(with_engine: Artifact, machine: Facts) -> None:
    machine(engine="", **GPU)
    assert str(choose(with_engine)) == "tensorrt on cuda"


def test_auto_passes_an_engine_that_does_not(with_engine: Artifact, machine: Facts) -> None:
    machine(engine="it runs on compute capability 9.0, and this machine has 8.6", **GPU)
    chosen = choose(with_engine)
    assert str(chosen) == "onnxruntime on cuda"
    assert "engines/tensorrt.plan: it runs on compute capability 9.0" in chosen.reason


@pytest.mark.parametrize(
    ("has", "why"),
    [
        ({}, "this machine has no GPU"),
        ({"capability": "9.0"}, "the installed onnxruntime is for CPUs"),
    ],
)
def test_auto_ends_on_the_cpu(artifact: Artifact, machine: Facts, has: dict[str, str], why: str) -> None:
    machine(**has)
    chosen = choose(artifact)
    assert str(chosen) == "onnxruntime on cpu"
    assert why in chosen.reason


def test_a_device_narrows_auto(with_engine: Artifact, machine: Facts) -> None:
    machine(engine="", **GPU)
    assert str(choose(with_engine, device="cpu")) == "onnxruntime on cpu"
    assert str(choose(with_engine, device="cuda")) == "tensorrt on cuda"
    assert str(choose(with_engine, "onnxruntime", "cuda")) == "onnxruntime on cuda"


@pytest.mark.parametrize(("dtype", "runtime"), [("bfloat16", "openvino"), ("int8", "onnxruntime")])
def test_each_dtype_has_its_cpu_runtime(artifact: Artifact, machine: Facts, dtype: str, runtime: str) -> None:
    narrow = replace(artifact, manifest=replace(artifact.manifest, dtype=dtype))
    assert str(choose(narrow)) == f"{runtime} on cpu"


def test_integers_stay_off_the_gpu(artifact: Artifact, machine: Facts) -> None:
    machine(**GPU)
    narrow = replace(artifact, manifest=replace(artifact.manifest, dtype="int8"))
    assert str(choose(narrow)) == "onnxruntime on cpu"


@pytest.mark.parametrize(
    ("runtime", "device", "told"),
    [
        ("rocm", "auto", "unknown runtime 'rocm'"),
        ("auto", "tpu", "'tpu' is no device of auto"),
        ("openvino", "cuda", "'cuda' is no device of openvino"),
        ("tensorrt", "cpu", "'cpu' is no device of tensorrt"),
    ],
)
def test_what_there_is_not_is_refused(artifact: Artifact, runtime: str, device: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        choose(artifact, runtime, device)


def test_the_pipeline_and_the_log_say_what_runs(artifact: Artifact, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="chronos_export")
    pipeline = chronos_export.load(artifact.path, device="cpu", threads=1)
    assert repr(pipeline) == f"<Chronos2Pipeline of {artifact.path} with onnxruntime on cpu>"
    assert f"{artifact.path} runs with onnxruntime on cpu (the CPU was asked for)" in caplog.text


def test_a_gpu_that_is_not_there_is_named(artifact: Artifact) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(MachineError, match="no CUDAExecutionProvider"):
        chronos_export.load(artifact.path, device="cuda")


def test_an_engine_record_survives_the_manifest(with_engine: Artifact) -> None:
    (entry,) = with_engine.manifest.engines
    assert EngineInfo.from_entry(entry, with_engine.path).runtime == "tensorrt"


def test_a_type_that_the_runtime_lacks_on_a_cpu_is_refused_at_once(
    artifact: Artifact, machine: Facts
) -> None:
    in_bfloat16 = replace(artifact, manifest=replace(artifact.manifest, dtype="bfloat16"))
    with pytest.raises(MachineError, match="onnxruntime cannot compute bfloat16 on a CPU") as error:
        choose(in_bfloat16, "onnxruntime")
    assert error.value.fix == f"load({str(artifact.path)!r}, runtime='openvino')"
    assert str(choose(in_bfloat16, "onnxruntime", "cuda")) == "onnxruntime on cuda"
