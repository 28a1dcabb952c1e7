"""An artifact that is replaced, written to or forged: what is checked is what is loaded, and nothing else."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import Tensor

from chronos_export import export, load
from chronos_export.artifact.hashing import hash_file
from chronos_export.artifact.manifest import NAME, read_manifest
from chronos_export.artifact.reading import open_artifact
from chronos_export.errors import IntegrityError
from chronos_export.graph_contract import GENERAL, INLINED, UNIVARIATE, WEIGHTS
from chronos_export.runtime import openvino_session
from chronos_export.runtime.onnx_weights import weights_of
from tests.helpers.checkpoints import make_checkpoint

GENERAL_OF = {"onnxruntime": GENERAL, "openvino": INLINED}


@pytest.fixture(scope="module")
def generations(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two artifacts of one shape and of different weights."""
    folder = tmp_path_factory.mktemp("generations")
    other = make_checkpoint(folder / "checkpoint", "toy", seed=1)
    return export(str(toy), output=folder / "1").path, export(str(other), output=folder / "2").path


@pytest.fixture
def artifact(generations: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy, free to be spoiled."""
    return Path(shutil.copytree(generations[0], tmp_path / "artifact"))


def answers(path: Path, runtime: str = "onnxruntime") -> Tensor:
    """Forecasts of both graphs: a group of two, and a single row."""
    context = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)).cumsum(1)
    model = load(path, runtime, threads=1).model
    return model(context, torch.tensor([5, 5, 6])).quantile_preds


def forge(folder: Path) -> Path:
    """Make the manifest right again, as whoever can write to the folder can."""
    manifest = read_manifest(folder)
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != NAME]
    records = {file.relative_to(folder).as_posix(): hash_file(file) for file in files}
    dataclasses.replace(manifest, files=records).write(folder)
    return folder


REPLACE_FOREVER = """
import itertools, shutil, sys
from pathlib import Path
from chronos_export.artifact.manifest import read_manifest
from chronos_export.artifact.publishing import publish
from chronos_export.artifact import publishing as module
generations = [Path(path) for path in sys.argv[2:4]]
if sys.argv[4] == "two steps":
    from chronos_export.artifact import replacing
    replacing._exchange = lambda one, other: False
print("ready", flush=True)
for source in itertools.cycle(generations):
    with publish(sys.argv[1], overwrite=True) as staging:
        shutil.copytree(source, staging.folder, dirs_exist_ok=True)
        (staging.folder / "manifest.json").unlink()
        staging.manifest = read_manifest(source)
"""


@pytest.fixture(params=["exchange", "two steps"])
def replacer(
    artifact: Path, generations: tuple[Path, Path], request: pytest.FixtureRequest
) -> Iterator[None]:
    """Another process that replaces the artifact without a pause."""
    arguments = [str(artifact), *map(str, generations), request.param]
    command = [sys.executable, "-c", REPLACE_FOREVER, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        assert process.poll() is None
        process.kill()


@pytest.mark.usefixtures("replacer")
def test_loaded_while_it_is_replaced(artifact: Path, generations: tuple[Path, Path]) -> None:
    """The old one or the new one, whole; and never an error."""
    whole = [answers(path) for path in generations]
    assert not torch.allclose(*whole)
    seen = [0, 0]
    for _ in range(25):
        found = answers(artifact)
        assert any(torch.equal(found, one) for one in whole)
        seen[torch.equal(found, whole[1])] += 1
    assert min(seen) > 0


@pytest.mark.parametrize("name", [GENERAL, INLINED, UNIVARIATE, WEIGHTS])
@pytest.mark.parametrize("runtime", GENERAL_OF)
def test_written_to_at_the_worst_moment(
    artifact: Path,
    generations: tuple[Path, Path],
    name: str,
    runtime: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In place, by `cp` or rsync, after the hash and before the runtime opens anything."""
    expected = answers(artifact, runtime)
    opened = []

    def write_first(make: Callable[..., object]) -> Callable[..., object]:
        def making(*args: object, **kwargs: object) -> object:
            with (artifact / name).open("r+b") as file:
                file.write((generations[1] / name).read_bytes())
            opened.append(name)
            return make(*args, **kwargs)

        return making

    if runtime == "onnxruntime":
        monkeypatch.setattr(onnxruntime, "InferenceSession", write_first(onnxruntime.InferenceSession))
    else:
        monkeypatch.setattr(openvino_session, "_core", write_first(openvino_session._core))
    if (runtime, name) == ("onnxruntime", WEIGHTS):  # which the second graph reads again
        with pytest.raises(IntegrityError, match="was changed after it was loaded"):
            answers(artifact, runtime)
    else:
        assert torch.equal(answers(artifact, runtime), expected)
    assert opened


@pytest.mark.parametrize("missing", ["general", UNIVARIATE, WEIGHTS, None])
@pytest.mark.parametrize("runtime", GENERAL_OF)
def test_files_that_the_manifest_does_not_list(artifact: Path, missing: str | None, runtime: str) -> None:
    manifest = read_manifest(artifact)
    gone = GENERAL_OF[runtime] if missing == "general" else missing
    files = {name: record for name, record in manifest.files.items() if gone and name != gone}
    dataclasses.replace(manifest, files=files).write(artifact)
    with pytest.raises(IntegrityError, match="is not in the manifest"):
        load(artifact, runtime)


def external(location: str, name: str = "planted") -> onnx.TensorProto:
    """A tensor of 4 floats that is kept in another file."""
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def as_initializer(model: onnx.ModelProto, location: str) -> None:
    model.graph.initializer.append(external(location))


def as_constant(model: onnx.ModelProto, location: str) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["planted"], value=external(location)))


def in_a_branch(model: onnx.ModelProto, location: str) -> None:
    inner = helper.make_graph([], "inner", [], [], [external(location)])
    model.graph.node.append(helper.make_node("If", ["no"], [], then_branch=inner, else_branch=inner))


def in_a_function(model: onnx.ModelProto, location: str) -> None:
    function = model.functions.add(name="planted", domain="planted")
    function.node.append(helper.make_node("Constant", [], ["planted"], value=external(location)))


def as_sparse(model: onnx.ModelProto, location: str) -> None:
    model.graph.sparse_initializer.add(values=external(location), dims=[4])


def as_weight(model: onnx.ModelProto, location: str) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    next(entry for entry in tensor.external_data if entry.key == "location").value = location


LOCATIONS = ["other.bin", "../other.bin", "{outside}", "link.bin", "./weights.bin", "WEIGHTS.BIN", ""]
PLANTS = [as_initializer, as_constant, in_a_branch, in_a_function, as_sparse, as_weight]


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("plant", PLANTS)
def test_a_graph_that_names_other_files(
    generations: tuple[Path, Path], plant: Callable[[onnx.ModelProto, str], None], location: str
) -> None:
    """Wherever it does: only weights.bin is weights, and only those of the graph itself."""
    model = onnx.load(generations[0] / GENERAL, load_external_data=False)
    weights = memoryview((generations[0] / WEIGHTS).read_bytes())
    assert weights_of(model.SerializeToString(), weights)
    plant(model, location.format(outside=generations[1] / WEIGHTS))
    with pytest.raises(IntegrityError, match="cannot be used"):
        weights_of(model.SerializeToString(), weights)


@pytest.mark.parametrize("location", ["other.bin", "../other.bin", "{outside}", "link.bin"])
@pytest.mark.parametrize("plant", [as_constant, as_weight])
@pytest.mark.parametrize("runtime", GENERAL_OF)
def test_no_runtime_opens_another_file(
    artifact: Path,
    tmp_path: Path,
    plant: Callable[[onnx.ModelProto, str], None],
    location: str,
    runtime: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Listed or not, inside of the folder, beside it or in the working directory."""
    monkeypatch.chdir(tmp_path)
    for folder in (artifact, tmp_path):
        (folder / "other.bin").write_bytes((artifact / WEIGHTS).read_bytes())
    model = onnx.load(artifact / GENERAL_OF[runtime], load_external_data=False)
    plant(model, location.format(outside=tmp_path / "other.bin"))
    (artifact / GENERAL_OF[runtime]).write_bytes(model.SerializeToString())
    forge(artifact)
    (artifact / "link.bin").symlink_to(tmp_path / "other.bin")
    with pytest.raises(IntegrityError, match="cannot be used"):
        answers(artifact, runtime)


@pytest.mark.parametrize("entry", ["offset", "length"])
@pytest.mark.parametrize("value", ["-4", "99999999", "9" * 400, "0x10", "", "१"])
def test_weights_that_lie_elsewhere(generations: tuple[Path, Path], entry: str, value: str) -> None:
    model = onnx.load(generations[0] / GENERAL, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    next(kept for kept in tensor.external_data if kept.key == entry).value = value
    with pytest.raises(IntegrityError, match="cannot be used"):
        weights_of(model.SerializeToString(), memoryview((generations[0] / WEIGHTS).read_bytes()))


def test_graphs_that_are_none(generations: tuple[Path, Path]) -> None:
    """Whatever the bytes are: tensors, or a refusal, and no raw error."""
    whole = (generations[0] / GENERAL).read_bytes()
    weights = memoryview((generations[0] / WEIGHTS).read_bytes())
    random, refused = np.random.default_rng(0), 0
    for number in range(300):
        spoiled = bytearray(whole)
        for place in random.integers(0, len(whole), 1 + number % 9):
            spoiled[place] = random.integers(0, 256)
        try:
            weights_of(bytes(spoiled[: random.integers(1, len(whole) + 1)]), weights)
        except IntegrityError:
            refused += 1
    assert refused > 100


def test_tensors_are_the_ones_that_onnx_reads(generations: tuple[Path, Path]) -> None:
    weights = memoryview((generations[0] / WEIGHTS).read_bytes())
    for name in (GENERAL, UNIVARIATE):
        found = weights_of((generations[0] / name).read_bytes(), weights)
        graph = onnx.load(generations[0] / name, load_external_data=False).graph
        assert found.keys() == {tensor.name for tensor in graph.initializer if tensor.external_data}
        for tensor in onnx.load(generations[0] / name).graph.initializer:
            if tensor.name in found:
                assert np.array_equal(found[tensor.name].values, onnx.numpy_helper.to_array(tensor))


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "link", "link outside"])
@pytest.mark.parametrize("name", [GENERAL, WEIGHTS, "validation/inputs.json", NAME])
def test_what_is_no_plain_file(artifact: Path, tmp_path: Path, what: str, name: str) -> None:
    """Nobody waits for a pipe or reads a device to its end; the right bytes behind a link are refused too."""
    file = artifact / name
    file.rename(outside := tmp_path / "outside")
    if what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    else:
        shutil.copy(outside, inside := artifact / "inside")
        file.symlink_to({"device": Path("/dev/zero"), "link": inside, "link outside": outside}[what])
    with pytest.raises(IntegrityError, match=name):
        load(artifact)
    with pytest.raises(IntegrityError, match=name):
        open_artifact(artifact)


def test_a_folder_that_is_a_link(artifact: Path, tmp_path: Path) -> None:
    (artifact / "validation").rename(tmp_path / "outside")
    (artifact / "validation").symlink_to(tmp_path / "outside")
    with pytest.raises(IntegrityError, match="link"):
        load(artifact)
