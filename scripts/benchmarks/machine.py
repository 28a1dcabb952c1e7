"""What this machine is, and the most it can do: the best rate of a matrix product and of a copy."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from chronos_export.machine.cpu import available_cores, cpu_name
from chronos_export.machine.gpu import driver_version
from chronos_export.machine.openvino import import_openvino
from chronos_export.machine.packages import is_installed

from .records import Machine
from .timing import best_seconds, tf32

PACKAGES = ("torch", "onnxruntime", "openvino", "chronos-forecasting")
GPU_PACKAGES = ("torch", "triton", "onnxruntime-gpu", "tensorrt-cu13", "tensorrt-rtx", "chronos-forecasting")
NARROW = ("bfloat16", "float16")
DTYPES = (*NARROW, "tf32", "float32")  # those of a GPU, in the order of their worth
COPIED = 2**28  # bytes, more than caches hold


def machine(device: str, seconds: float = 1.5) -> Machine:
    """Look at the machine; `seconds` are tried per library or dtype."""
    if device == "cuda":
        return Machine(_gpu_environment(), _gpu_peaks(device, seconds), _bandwidth(device, seconds))
    return Machine(cpu_environment(), _cpu_peaks(seconds), _bandwidth(device, seconds))


def cpu_environment() -> dict[str, Any]:
    """Processor and versions."""
    found = {"cpu": cpu_name(), "cores": available_cores(), **_versions(PACKAGES)}
    return {**found, "python": platform.python_version()}


def _gpu_environment() -> dict[str, Any]:
    gpu = torch.cuda.get_device_properties(0)
    return {
        "gpu": gpu.name,
        "compute capability": f"{gpu.major}.{gpu.minor}",
        "multiprocessors": gpu.multi_processor_count,
        "memory": f"{gpu.total_memory / 2**30:.0f} GiB",
        "driver": driver_version(),
        "cuda": torch.version.cuda,
        **_versions(GPU_PACKAGES),
        "python": platform.python_version(),
    }


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _bandwidth(device: str, seconds: float) -> float:
    source = torch.zeros((4 if device == "cuda" else 1) * COPIED // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / best_seconds(lambda: target.copy_(source), seconds, device)


def _gpu_peaks(device: str, seconds: float) -> dict[str, float]:
    """Of a large product of random numbers, in each dtype."""
    size, found = 8192, {}
    for dtype in DTYPES:
        narrow = getattr(torch, dtype) if dtype in NARROW else torch.float32
        a, b = (torch.randn(size, size, device=device).to(narrow) for _ in range(2))
        with tf32(dtype == "tf32"):
            found[dtype] = 2.0 * size**3 / best_seconds(partial(torch.matmul, a, b), seconds, device)
    return found


def _cpu_peaks(seconds: float) -> dict[str, float]:
    """Of a product of the model's sizes in float32, [1552, 768] x [768, 3072], with each library at hand."""
    a, b = torch.randn(1552, 768), torch.randn(768, 3072)
    products: dict[str, Callable[[], object]] = {"torch": lambda: a @ b, "onnxruntime": _onnxruntime(a, b)}
    if is_installed("openvino"):
        products["openvino"] = _openvino(a, b)
    flops = 2.0 * a.shape[0] * a.shape[1] * b.shape[1]
    return {name: flops / best_seconds(run, seconds) for name, run in products.items()}


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
    opset13 = importlib.import_module("openvino.opset13")
    left = opset13.parameter(list(a.shape), openvino.Type.f32)
    product = opset13.matmul(left, opset13.constant(b.numpy()), False, False)
    model = openvino.Model([product], [left])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request, feed = compiled.create_infer_request(), [a.numpy()]
    return lambda: request.infer(feed)
