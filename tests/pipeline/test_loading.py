"""Opening an artifact with an engine on a machine that is not the one it was built for.

The engine is a real one of TensorRT-RTX, built here with no GPU. TensorRT must never be asked to deserialize
it: that it is not even imported is part of every test.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from chronos_export import export, load
from chronos_export.artifact import rebuild
from chronos_export.artifact.reading import Artifact, open_artifact
from chronos_export.artifact.rebuild import rebuild_command
from chronos_export.engine.choice import EngineOptions
from chronos_export.errors import AccuracyError, IntegrityError, MachineError, UsageError
from chronos_export.exporting.export import validate_artifact
from chronos_export.machine.compiled import PLUGIN_NAME
from chronos_export.runtime import tensorrt_loading as engine_load
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.session import Floats, Ints
from chronos_export.validation import engines as engine_proof
from tests.helpers.engines import needs_rtx, without_gpu
from tests.helpers.published import edit_manifest

pytestmark = needs_rtx
PLAN = "engines/tensorrt-rtx.plan"
BUILT_FOR = ("8.6", "12.0")


@pytest.fixture(scope="module")
def published(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    output = tmp_path_factory.mktemp("published") / "with engine"
    engine = EngineOptions(runtime="tensorrt-rtx", context=64, horizon=32, compute_capabilities=BUILT_FOR)
    return export(str(small), (3, 5), output, engine=engine)


@pytest.fixture
def artifact(published: Artifact, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(published.path, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def tensorrt_is_never_touched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(runtime: str) -> Any:
        raise AssertionError("TensorRT was imported")

    monkeypatch.setattr(engine_load, "import_tensorrt", refuse)
    yield


def set_capability(monkeypatch: pytest.MonkeyPatch, capability: str | None) -> None:
    for module in (engine_load, rebuild):
        monkeypatch.setattr(module, "device_capability", lambda: capability)


def edit(artifact: Path, **changes: Any) -> None:
    """Write a manifest whose own hash is right, as someone careful would."""
    edit_manifest(artifact, lambda content: content.update(changes))


class Stands(OrtSession):
    """onnxruntime in the place of the engine, right or wrong by a factor."""

    factor = 1.0

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        return super().run(context, group_ids, future_covariates) * self.factor


def test_validate_asks_the_engine_too(artifact: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Stands(open_artifact(artifact))
    monkeypatch.setattr(engine_proof, "why_not_here", lambda info: "")
    monkeypatch.setattr(engine_proof, "_session", lambda info, digest: session)
    engine, _ = validate_artifact(artifact, source=str(small)).engines
    assert engine.cases > 1
    assert engine.line.startswith(f"tensorrt-rtx.plan was asked {engine.cases} cases")
    session.factor = 1.01
    with pytest.raises(AccuracyError, match="tensorrt-rtx on "):
        validate_artifact(artifact, source=str(small))


@without_gpu
def test_validate_says_why_an_engine_was_not_asked(artifact: Path, small: Path) -> None:
    engine, _ = validate_artifact(artifact, source=str(small)).engines
    assert engine.line == (
        "tensorrt-rtx.plan was not run: it runs on compute capability 8.6, 12.0, and this machine has no GPU"
    )


@without_gpu
def test_no_gpu(artifact: Path) -> None:
    with pytest.raises(MachineError, match=r"8\.6, 12\.0, and this machine has no GPU") as raised:
        load(artifact, runtime="tensorrt-rtx")
    assert raised.value.fix == "load the artifact with onnxruntime instead"


def test_another_gpu(artifact: Path, monkeypatch: pytest.MonkeyPatch, small: Path) -> None:
    set_capability(monkeypatch, "8.9")
    with pytest.raises(MachineError, match=r"8\.6, 12\.0, and this machine has 8\.9") as raised:
        load(artifact, runtime="tensorrt-rtx")
    assert raised.value.fix == (
        f"chronos-export --model ./{small.name} --batch 3,5 --dtype float32 --runtime tensorrt-rtx"
        f" --attention plugin --context 64 --horizon 32 --memory 8GiB"
        f" --compute-capability 8.9 -o {artifact} --force"
    )


def test_no_plugin_library(artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_capability(monkeypatch, "8.6")
    monkeypatch.setenv("CHRONOS_EXPORT_PLUGINS", str(tmp_path))
    with pytest.raises(MachineError, match="needs the compiled plugin") as raised:
        load(artifact, runtime="tensorrt-rtx")
    assert raised.value.fix == "chronos-export plugin build"


def test_another_plugin_library(artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_capability(monkeypatch, "12.0")
    (tmp_path / PLUGIN_NAME).write_bytes(b"another build")
    monkeypatch.setenv("CHRONOS_EXPORT_PLUGINS", str(tmp_path))
    entry, other = open_artifact(artifact).manifest.engines
    wanted, found = sha256(b"the build").hexdigest(), sha256(b"another build").hexdigest()
    edit(artifact, engines=[{**entry, "plugin_sha256": wanted}, other])
    with pytest.raises(MachineError, match=f"{wanted}; .* has {found}") as raised:
        load(artifact, runtime="tensorrt-rtx")
    assert "--compute-capability 12.0 " in raised.value.fix


def test_an_older_driver(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_capability(monkeypatch, "8.6")
    monkeypatch.setattr(engine_load, "driver_version", lambda: "550.54.14")
    entry, other = open_artifact(artifact).manifest.engines
    edit(artifact, engines=[{**entry, "driver": "580.65.06"}, other])
    with pytest.raises(MachineError, match=r"driver 580\.65\.06; .* older 550\.54\.14"):
        load(artifact, runtime="tensorrt-rtx")


@pytest.mark.parametrize("where", [0, 1000, -1])
def test_a_flipped_bit_is_found_before_anything_else(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, small: Path, where: int
) -> None:
    """No GPU, no plugin: what is told is that the file is not the file."""
    set_capability(monkeypatch, None)
    plan = bytearray((artifact / PLAN).read_bytes())
    plan[where] ^= 1
    (artifact / PLAN).write_bytes(plan)
    with pytest.raises(IntegrityError, match=r"tensorrt-rtx\.plan has been altered") as raised:
        load(artifact, runtime="tensorrt-rtx")
    assert raised.value.fix == (
        f"chronos-export --model ./{small.name} --batch 3,5 --dtype float32 --runtime tensorrt-rtx"
        f" --attention plugin --context 64 --horizon 32 --memory 8GiB"
        f" --compute-capability 8.6,12.0 -o {artifact} --force"
    )


def test_a_truncated_plan(artifact: Path) -> None:
    plan = (artifact / PLAN).read_bytes()
    (artifact / PLAN).write_bytes(plan[:-1])
    with pytest.raises(IntegrityError, match=f"{len(plan) - 1} bytes, not the {len(plan)} "):
        load(artifact, runtime="tensorrt-rtx")


def test_a_missing_plan(artifact: Path) -> None:
    (artifact / PLAN).unlink()
    with pytest.raises(IntegrityError, match=r"tensorrt-rtx\.plan is missing"):
        load(artifact, runtime="tensorrt-rtx")


@pytest.mark.parametrize("elsewhere", ["engines/other.plan", "../other.plan", "/tmp/other.plan"])
def test_an_engine_that_the_manifest_does_not_vouch_for(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    set_capability(monkeypatch, "8.6")
    entry, other = open_artifact(artifact).manifest.engines
    edit(artifact, engines=[{**entry, "path": elsewhere}, other])
    if not Path(elsewhere).is_absolute():
        shutil.copy(artifact / PLAN, artifact / elsewhere)
    inside = elsewhere.startswith("engines/")
    with pytest.raises(IntegrityError, match="is not in the manifest" if inside else "outside"):
        load(artifact, runtime="tensorrt-rtx")


def test_an_entry_that_lacks_what_must_agree(artifact: Path) -> None:
    entry, other = open_artifact(artifact).manifest.engines
    del entry["tensorrt_version"]
    edit(artifact, engines=[entry, other])
    with pytest.raises(IntegrityError, match="tensorrt_version") as raised:
        load(artifact, runtime="tensorrt-rtx")
    assert "engines[0].tensorrt_version is missing" in raised.value.summary


def test_no_such_engine(artifact: Path) -> None:
    with pytest.raises(UsageError, match="holds no tensorrt engine") as raised:
        load(artifact, runtime="tensorrt")
    assert "onnxruntime, openvino" in raised.value.allowed
    assert raised.value.allowed.endswith("tensorrt-rtx")
    assert "--runtime tensorrt " in raised.value.fix


def test_no_such_runtime(artifact: Path) -> None:
    with pytest.raises(UsageError, match="unknown runtime 'rocm'") as raised:
        load(artifact, runtime="rocm")
    assert "tensorrt-rtx" in raised.value.allowed


def test_the_artifact_still_forecasts_on_the_cpu(artifact: Path) -> None:
    pipeline = load(artifact, runtime="onnxruntime", threads=1)
    (forecast,) = pipeline.predict(torch.randn(1, 1, 40), prediction_length=3)
    assert forecast.shape[-1] == 3


@pytest.mark.parametrize("engine", ["tensorrt-rtx", None])
def test_the_command_that_mends_it_is_a_command(
    published: Artifact, engine: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a message tells to run is what the command line takes, spaces in a path included."""
    import shlex

    from chronos_export.cli.main import cli

    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)

    program, *arguments = shlex.split(rebuild_command(published.path, published.manifest, engine))
    assert program == "chronos-export"
    given = cli.make_context("chronos-export", arguments, obj=object(), resilient_parsing=False).params
    assert (given["batch"], given["runtime"]) == ("3,5", "tensorrt-rtx")
    assert given["output"] == published.path
    assert given["force"]
    assert "tensorrt_rtx" not in sys.modules
