"""An engine where there is no GPU: onnxruntime behind TensorRT's calls, at the addresses it is given.

Nothing here says that an engine computes right: streams and graphs are stand-ins too. Where there is a GPU,
`pytest -m gpu` runs real engines.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from chronos_export.artifact.engine_info import EngineInfo, Profile
from chronos_export.runtime import tensorrt_call as engine_call
from chronos_export.runtime.session import Floats, Ints
from chronos_export.runtime.tensorrt_loading import LoadedEngine
from chronos_export.runtime.tensorrt_session import GRAPHS, TensorRtSession

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a stand-in for where there is no GPU")
INFO = EngineInfo(
    path=Path("engines/tensorrt.plan"),
    graph="model.onnx",
    runtime="tensorrt",
    attention="plugin",
    tensorrt_version="10.16.1",
    compute_capabilities=("9.0",),
    driver=None,
    plugin_sha256=None,
    profiles=(Profile(40, 128), Profile(8, 256)),
    horizon=64,
    memory=2**30,
    plugin_layers=3,
    bytes=1,
    build_seconds=1.0,
    peak_rss_bytes=1,
)
CTYPES = {np.dtype("float32"): ctypes.c_float, np.dtype("int64"): ctypes.c_int64}
DTYPES = {"context": np.float32, "group_ids": np.int64, "future_covariates": np.float32}


def at(address: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """The numbers at an address, as an array that can be written to."""
    kind = CTYPES[np.dtype(dtype)]
    size = int(np.prod(shape))
    return np.ctypeslib.as_array((kind * size).from_address(address)).reshape(shape)


class StandInContext:
    """An IExecutionContext of one profile over onnxruntime."""

    def __init__(self, engine: StandIn) -> None:
        self.engine, self.profile = engine, Profile(0, 0)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory = (0, 0)
        self.settled: dict[str, tuple[int, ...]] = {}

    def set_device_memory(self, address: int, size: int) -> None:
        self.memory = (address, size)

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self.profile = self.engine.profiles[number]
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return self.profile.admits(shape[0], shape[1] if name == "context" else 1)

    def set_tensor_address(self, name: str, address: int) -> bool:
        if address % engine_call.ALIGNMENT:
            return False
        self.addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        rows, horizon = self.shapes["future_covariates"]
        return (rows, 21, -(-horizon // 16) * 16)

    def execute_async_v3(self, stream: int) -> bool:
        assert self.memory[1] >= self.engine.device_memory_size_v2
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        if self.engine.capturing is None:
            self.launch(shapes, addresses)
        else:
            assert self.settled == shapes, "captured before it ran at this shape"
            self.engine.capturing.append(lambda: self.launch(shapes, addresses))
        return self.engine.works

    def launch(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        """What happens on the GPU, now or whenever a graph is replayed."""
        assert shapes == self.shapes, "a graph's context has been given another shape"
        self.settled = shapes
        self.engine.calls.append(shapes["context"])
        self.engine.during()
        feed = {name: at(addresses[name], shapes[name], DTYPES[name]) for name in shapes}
        (out,) = self.engine.graph.run(None, feed)
        at(addresses["quantile_preds"], out.shape, np.float32)[:] = out * self.engine.factor


class StandInGraph:
    """A torch.cuda.CUDAGraph."""

    def __init__(self) -> None:
        self.launches: list[Callable[[], None]] = []

    def replay(self) -> None:
        for launch in self.launches:
            launch()


class StandIn:
    """An ICudaEngine that records the rows and steps of every call."""

    device_memory_size_v2 = 4096

    def __init__(self, graph: Path) -> None:
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        self.graph = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.profiles: tuple[Profile, ...] = ()
        self.calls: list[tuple[int, ...]] = []
        self.works, self.factor = True, 1.0
        self.during: Callable[[], object] = lambda: None
        self.capturing: list[Callable[[], None]] | None = None
        self.captures = 0
        self.contexts: list[StandInContext] = []

    def create_execution_context(self, strategy: str) -> StandInContext:
        assert strategy == "USER_MANAGED"
        self.contexts.append(StandInContext(self))
        return self.contexts[-1]

    @contextmanager
    def capture(self, graph: StandInGraph, stream: Any, capture_error_mode: str) -> Iterator[None]:
        """A torch.cuda.graph: what is enqueued is kept, not run."""
        self.captures += 1
        self.capturing = graph.launches
        try:
            yield
        finally:
            self.capturing = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In place of what PyTorch has for a GPU."""

        def stream() -> Any:
            return SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: None, cuda_stream=7)

        monkeypatch.setattr(engine_call, "ALIGNMENT", 64)  # PyTorch's own on a CPU
        monkeypatch.setattr(torch.cuda, "Stream", stream)
        monkeypatch.setattr(torch.cuda, "current_stream", stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda s: nullcontext())
        monkeypatch.setattr(torch.cuda, "CUDAGraph", StandInGraph)
        monkeypatch.setattr(torch.cuda, "graph", self.capture)
        monkeypatch.setattr(Tensor, "record_stream", lambda tensor, s: None)

    def loaded(self, info: EngineInfo = INFO) -> LoadedEngine:
        """This engine, deserialized."""
        strategies = SimpleNamespace(USER_MANAGED="USER_MANAGED")
        self.profiles = info.profiles
        return LoadedEngine(SimpleNamespace(ExecutionContextAllocationStrategy=strategies), self, info)

    def session(self, info: EngineInfo = INFO, graphs: int = GRAPHS) -> TensorRtSession:
        """A session over this engine."""
        return TensorRtSession(self.loaded(info), device=torch.device("cpu"), graphs=graphs)


def inputs(rows: int, context: int = 48, horizon: int = 20) -> tuple[Floats, Ints, Floats]:
    random = np.random.default_rng(rows)
    return (
        random.standard_normal((rows, context), dtype=np.float32).cumsum(1),
        np.arange(rows) // 3,
        np.full((rows, horizon), np.nan, np.float32),
    )
