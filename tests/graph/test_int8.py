"""Products of 8-bit integers: how far off they may be, and that every processor computes the same ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from chronos_export.artifact.reading import open_artifact
from chronos_export.engine.choice import EngineOptions
from chronos_export.errors import AccuracyError, UsageError
from chronos_export.exporting.export import export
from chronos_export.graph import int8
from chronos_export.graph.builder import GraphBuilder
from chronos_export.graph.int8 import quantized_product
from chronos_export.graph.precision import precision_of
from chronos_export.graph_contract import GENERAL, UNIVARIATE
from chronos_export.runtime.onnxruntime_session import OrtSession

EMULATOR = shutil.which("qemu-x86_64")  # of processors that this machine is not


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export("demo", output=tmp_path_factory.mktemp("int8") / "demo", dtype="int8").path


def test_int8_is_no_engine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tensorrt-rtx cannot build int8 engines"):
        export("demo", output=tmp_path / "x", dtype="int8", engine=EngineOptions(runtime="tensorrt-rtx"))
    assert list(tmp_path.iterdir()) == []


def test_four_bits_are_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate, where the proof cannot tell: upstream rounded to 4 bits forecasts as badly."""
    monkeypatch.setattr(int8, "LEVELS", 7)
    with pytest.raises(AccuracyError, match=r"int8 moves the quantile loss of onnxruntime .* by \+") as error:
        export("demo", output=tmp_path / "narrow", dtype="int8")
    assert error.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


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
    step_weight = largest_of_neighbours(weight) / 127
    allowed = (
        step_x / 2 * np.abs(weight).sum(axis=0)
        + np.abs(x).sum(axis=2, keepdims=True) * step_weight / 2
        + 24 * step_x * step_weight / 4
    )
    assert (np.abs(found - x.astype(np.float64) @ weight) <= allowed * (1 + 1e-5) + 1e-30).all()


def test_a_row_does_not_depend_on_its_neighbours(artifact: Path) -> None:
    session = OrtSession(open_artifact(artifact))
    context = np.random.default_rng(0).standard_normal((4, 128), dtype=np.float32).cumsum(1)
    context[3] *= 1e6
    future = np.full((4, 16), np.nan, np.float32)
    together = session.run_univariate(context, future)
    alone = [session.run_univariate(context[n : n + 1], future[:1]) for n in range(4)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("graph", [GENERAL, UNIVARIATE])
def test_no_product_can_saturate_16_bits(graph: str, artifact: Path) -> None:
    """What x86 without VNNI adds first: two neighbouring products of a uint8 token and an int8 weight."""
    model = onnx.load(artifact / graph)
    names = {node.input[1] for node in model.graph.node if node.op_type == "MatMulInteger"}
    weights = [numpy_helper.to_array(w).astype(int) for w in model.graph.initializer if w.name in names]
    assert len(weights) == len(names) > 10
    assert all(weight.shape[0] % 2 == 0 for weight in weights)
    assert max(255 * largest_of_neighbours(weight).max() for weight in weights) <= 2**15 - 1
    assert max(np.abs(weight).max() for weight in weights) > 100  # they use their 8 bits


@pytest.mark.skipif(EMULATOR is None, reason="qemu-user is not installed")
@pytest.mark.parametrize("bounded", [True, False], ids=["as exported", "every weight up to 127"])
def test_a_processor_without_vnni_computes_the_same_integers(bounded: bool, tmp_path: Path) -> None:
    """Each column meets the tokens that are worst for it, in calls of one row and of many."""
    weight = np.random.default_rng(0).standard_normal((64, 12)).astype(np.float32)
    weight[:, 0], weight[:, 1], weight[::2, 2] = 1, -1, 1
    rounded = int8.round_columns(weight)[0] if bounded else (127 * np.sign(weight)).astype(np.int8)
    tokens = np.where(rounded.T > 0, 255, 0).astype(np.uint8)
    tokens = np.concatenate([tokens, 255 - tokens, np.full_like(tokens, 255)])
    found = emulated_product(tokens, rounded, tmp_path)
    assert np.array_equal(found, tokens.astype(int) @ rounded.astype(int)) is bounded


def emulated_product(tokens: np.ndarray, weight: np.ndarray, folder: Path) -> np.ndarray:
    """MatMulInteger on a processor without VNNI, in one call; row by row it must be the same."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["tokens", "weight"], ["product"])],
        "product",
        [info("tokens", TensorProto.UINT8, ["rows", len(weight)])],
        [info("product", TensorProto.INT32, ["rows", weight.shape[1]])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    np.save(folder / "tokens.npy", tokens)
    program = """
import numpy as np, onnxruntime as ort
session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
tokens = np.load("tokens.npy")
together = session.run(None, {"tokens": tokens})[0]
alone = [session.run(None, {"tokens": row[None]})[0] for row in tokens]
assert np.array_equal(together, np.concatenate(alone))
np.save("product.npy", together)
"""
    command = [EMULATOR, "-cpu", "Haswell", sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.asarray(np.load(folder / "product.npy"))


def largest_of_neighbours(weight: np.ndarray) -> np.ndarray:
    """The largest sum, of one sign, of what a column gives to two neighbouring inputs: [inputs, N] to [N]."""
    even, odd = weight[::2], weight[1::2]
    same = np.where(np.sign(even) == np.sign(odd), np.abs(even + odd), np.maximum(np.abs(even), np.abs(odd)))
    return same.max(axis=0)


def product(x: np.ndarray, weight: np.ndarray, non_negative: bool) -> np.ndarray:
    """`quantized_product` alone on onnxruntime."""
    g = GraphBuilder(precision_of("int8"))
    quantized_product(g, "weight", g.Relu("x") if non_negative else "x", weight)
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
