"""What this machine is, and the most it can do: the best rate of a matrix product and of a copy."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from chronos_export.machine.cpu import available_cores
from chronos_export.machine.openvino import import_openvino
from chronos_export.machine.packages import is_installed

COPIED = 2**28  # bytes, more than caches hold


def environment() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "torch": torch.__version__,
        "onnxruntime": ort.__version__,
        **({"openvino": version("openvino")} if is_installed("openvino") else {}),
        "chronos-forecasting": version("chronos-forecasting"),
        "python": platform.python_version(),
    }


def matmul_peak(seconds: float = 1.5) -> dict[str, float]:
    """Best float32 FLOP/s of a large product with each library at hand, [1552, 768] x [768, 3072].

    Args:
        seconds: How long to try with each.
    """
    a, b = torch.randn(1552, 768), torch.randn(768, 3072)
    products: dict[str, Callable[[], object]] = {"torch": lambda: a @ b, "onnxruntime": _onnxruntime(a, b)}
    if is_installed("openvino"):
        products["openvino"] = _openvino(a, b)
    flops = 2.0 * a.shape[0] * a.shape[1] * b.shape[1]
    return {name: flops / _best(run, seconds) for name, run in products.items()}


def copy_bandwidth(seconds: float = 1.0) -> float:
    """Best bytes a second of a copy, read and written ones both counted."""
    source = torch.zeros(COPIED // 4)
    target = torch.empty_like(source)
    return 2.0 * COPIED / _best(lambda: target.copy_(source), seconds)


def _best(run: Callable[[], object], seconds: float) -> float:
    best, end = float("inf"), perf_counter() + seconds
    while perf_counter() < end:
        begin = perf_counter()
        run()
        best = min(best, perf_counter() - begin)
    return best


def _onnxruntime(a: Tensor, b: Tensor) -> Callable[[], object]:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [info("a", TensorProto.FLOAT, list(a.shape))],
        [info("c", TensorProto.FLOAT, [a.shape[0], b.shape[1]])],
        [numpy_helper.from_array(b.numpy(), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"a": a.numpy()}
    return lambda: session.run(None, feed)


def _openvino(a: Tensor, b: Tensor) -> Callable[[], object]:
    openvino = import_openvino()
    from openvino import opset13

    left = opset13.parameter(list(a.shape), openvino.Type.f32)
    product = opset13.matmul(left, opset13.constant(b.numpy()), False, False)
    model = openvino.Model([product], [left])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request, feed = compiled.create_infer_request(), [a.numpy()]
    return lambda: request.infer(feed)


def _cpu_name() -> str:
    """With family and model where Linux tells them: one name stands for very different processors."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    first = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))
    }
    if "model name" not in first:
        return platform.processor()
    return f"{first['model name']} (family {first.get('cpu family', '?')}, model {first.get('model', '?')})"
