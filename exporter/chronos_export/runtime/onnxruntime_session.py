"""The ONNX graphs on onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from chronos_export.errors import MachineError, UsageError
from chronos_export.graph_contract import GENERAL, OUTPUT, UNIVARIATE
from chronos_export.machine.cpu import available_cores
from chronos_export.machine.packages import extra, install_command, owners, runtime_extra
from chronos_export.runtime.onnx_weights import BFLOAT16, Weight, weights_of
from chronos_export.runtime.session import Files, Floats, Graphs, HeldFiles, Ints

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}
LARGE = 2**18  # numbers in a call's context; what a larger one, a large group, takes is given back after it


class OrtSession:
    """Both graphs on onnxruntime, see `Graphs`. Safe to call from several threads; see `SideBySide`.

    Args:
        files: Where `model.onnx`, `univariate.onnx` and their weights are.
        device: "cpu" or "cuda".
        threads: Threads inside an operator; 0 leaves it to onnxruntime.

    Raises:
        UsageError: If the device is not one of these.
        MachineError: If onnxruntime cannot use the device or starts another one instead; on a CPU, by the
            first call of a graph, if it has no kernels for its type.
    """

    def __init__(self, files: Files, device: str = "cpu", threads: int = 0) -> None:
        self.provider, self._threads = _provider(device), threads

        def open_graph(name: str, graph: bytes, weights: memoryview, threads: int = threads) -> _OrtGraph:
            return _OrtGraph(files.path / name, graph, weights, self.provider, threads)

        held = HeldFiles(files, (GENERAL, UNIVARIATE))
        self._graphs = Graphs(held, open_graph)
        self.single_threaded = Graphs(held, partial(open_graph, threads=1))
        if self.provider != PROVIDERS["cpu"]:
            self._graphs.open()  # so that what is missing is missed now

    @property
    def workers(self) -> int:
        """See `SideBySide`."""
        return (self._threads or available_cores()) if self.provider == PROVIDERS["cpu"] else 1

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        """See `Session.run`."""
        return self._graphs.run(context, group_ids, future_covariates)

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        """See `Session.run_univariate`."""
        return self._graphs.run_univariate(context, future_covariates)


def _provider(device: str) -> str:
    if device not in PROVIDERS:
        raise UsageError(f"unknown device {device!r}", allowed=", ".join(PROVIDERS))
    name = PROVIDERS[device]
    if name not in ort.get_available_providers():
        here = owners("onnxruntime")
        both = f": {' and '.join(here)} are both installed, into the same folder" if len(here) > 1 else ""
        raise MachineError(
            f"this onnxruntime has no {name}{both}",
            allowed=", ".join(ort.get_available_providers()),
            fix=install_command(extra(runtime_extra("onnxruntime", device))),
        )
    return name


def open_graph(
    path: Path, graph: bytes, weights: memoryview, device: str, threads: int
) -> ort.InferenceSession:
    """Return a graph with its weights, opened; errors are those of `OrtSession`.

    Args:
        path: For messages.
        graph: ONNX.
        weights: The file that holds them.
        device: "cpu" or "cuda".
        threads: Threads inside an operator; 0 leaves it to onnxruntime.
    """
    return _open(path, graph, weights_of(graph, weights), _provider(device), threads)


class _OrtGraph:
    """One graph on onnxruntime."""

    def __init__(self, path: Path, graph: bytes, weights: memoryview, provider: str, threads: int) -> None:
        self._session = _open(path, graph, weights_of(graph, weights), provider, threads)
        self._give_back = ort.RunOptions()
        device = next(device for device, name in PROVIDERS.items() if name == provider)
        self._give_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", f"{device}:0")

    def __call__(self, **feed: NDArray[Any]) -> Floats:
        arrays = {name: np.ascontiguousarray(array) for name, array in feed.items()}
        (out,) = self._session.run(
            [OUTPUT], arrays, self._give_back if feed["context"].size > LARGE else None
        )
        return np.asarray(out)


def _open(
    path: Path, graph: bytes, weights: Mapping[str, Weight], provider: str, threads: int
) -> ort.InferenceSession:
    """A graph, opened. onnxruntime is not told of `path`, which is for messages, so that it opens no file."""
    if provider != PROVIDERS["cpu"]:
        ort.preload_dlls()  # the CUDA libraries of NVIDIA's packages, or of PyTorch where that is loaded

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Otherwise a shape gets memory of its own from its second call on, as much again as the first call took.
    options.enable_mem_pattern = False
    # Otherwise its threads keep a core busy for 30 ms after a call, at the cost of those that follow.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    values = [_value(weight) for weight in weights.values()]
    options.add_external_initializers(list(weights), values)
    try:
        session = ort.InferenceSession(graph, options, providers=[provider])
    except NoKernel as error:
        raise MachineError(
            f"onnxruntime's {provider} cannot run {path.name}: {error}",
            allowed="the types that it has kernels for: float32 everywhere, bfloat16 on a GPU only",
            fix=f"load({str(path.parent)!r}, runtime='openvino'), or chronos-export --dtype float32 ...",
        ) from error
    if session.get_providers()[0] != provider:
        raise MachineError(
            f"onnxruntime runs {path.name} on {session.get_providers()[0]}, not on {provider}",
            fix=install_command(extra(runtime_extra("onnxruntime", "cuda"))),  # with CUDA's libraries
        )
    return session


def _value(weight: Weight) -> ort.OrtValue:
    """A tensor over the bytes of a weight, which must stay until a session is made of it."""
    if weight.kind == BFLOAT16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(weight.values, BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(weight.values)
