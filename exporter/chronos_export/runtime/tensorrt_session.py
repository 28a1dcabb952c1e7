"""A deserialized engine behind the call of `session.Session`.

An execution context holds the state of one call, so a session answers one thread at a time and refuses a
second. Give every thread a session of its own; they may share the `LoadedEngine`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chronos_export.artifact.engine_info import EngineInfo
from chronos_export.errors import BuildError, UsageError
from chronos_export.graph_contract import INPUTS
from chronos_export.runtime.cuda_graphs import GraphCache
from chronos_export.runtime.padding import pad_rows, smallest_profile
from chronos_export.runtime.session import Floats, Ints
from chronos_export.runtime.tensorrt_call import CapturedCall, EngineCall, on_device
from chronos_export.runtime.tensorrt_loading import LoadedEngine

CUDA = torch.device("cuda")
GRAPHS = 8
STEPS = 16  # contexts are filled up to a multiple of this, so that shapes come back


class OnItsWay:
    """A forecast whose copy to the host is under way.

    Args:
        forecast: What the engine answered; on a GPU perhaps not computed yet.
    """

    def __init__(self, forecast: Tensor) -> None:
        self._copy, self._done = forecast, None
        if forecast.is_cuda:
            self._copy = torch.empty(forecast.shape, dtype=forecast.dtype, pin_memory=True)
            self._copy.copy_(forecast, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(forecast.device))  # where the copy was enqueued

    def wait(self) -> Floats:
        """Return the forecast."""
        if self._done is not None:
            self._done.synchronize()
        return self._copy.numpy()


class TensorRtSession:
    """One execution context a profile and one a CUDA graph, on one stream and in one piece of memory.

    A shape that comes back is captured in a CUDA graph, see `graph_cache`; not with TensorRT-RTX, which
    compiles better kernels for a shape while it already runs, and would have the first ones captured.

    Args:
        loaded: The engine, see `engine_load.load_engine`.
        info: What it was built for.
        device: The GPU it was deserialized on.
        graphs: The most CUDA graphs held at a time.
    """

    def __init__(
        self, loaded: LoadedEngine, info: EngineInfo, device: torch.device = CUDA, graphs: int = GRAPHS
    ) -> None:
        self.device = device
        self._loaded, self._info = loaded, info
        self._stream = torch.cuda.Stream()
        self._memory = torch.empty(loaded.engine.device_memory_size_v2, dtype=torch.uint8, device=device)
        self._contexts = [self._context(number) for number in range(len(info.profiles))]
        self._graphs: GraphCache[CapturedCall] = GraphCache(graphs if info.runtime == "tensorrt" else 0)
        self._free = threading.Lock()

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        """See `session.Session.run`; raises what `start` raises."""
        return self.start(context, group_ids, future_covariates).wait()

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        """See `session.Session.run_univariate`: the engine with an id for every row."""
        return self.run(context, np.arange(len(context)), future_covariates)

    def start(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> OnItsWay:
        """See `session.Deferred.start`.

        Raises:
            UsageError: More rows, context or horizon than the engine was built for, or two calls at once.
        """
        self._check(context, future_covariates)
        rows = len(group_ids)
        number = smallest_profile(rows, self._info.profiles)
        steps = min(-(-context.shape[1] // STEPS) * STEPS, self._info.context)
        with self._alone():
            padded = pad_rows(
                context, group_ids, future_covariates, self._info.profiles[number], steps, self._staging
            )
            feed = {name: torch.from_numpy(x) for name, x in zip(INPUTS, padded, strict=True)}
            return OnItsWay(self._answer(number, feed)[:rows])

    def _staging(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An array in page-locked memory, from where a GPU fetches it by itself."""
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.empty(shape, dtype=kind, pin_memory=self.device.type == "cuda").numpy()

    def _context(self, number: int) -> Any:
        managed = self._loaded.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._loaded.engine.create_execution_context(managed)
        if context is not None:
            context.set_device_memory(self._memory.data_ptr(), self._memory.numel())
        if context is None or not context.set_optimization_profile_async(number, self._stream.cuda_stream):
            raise BuildError(f"no execution context for the profile of {self._info.profiles[number]} rows")
        self._stream.synchronize()
        return context

    def _answer(self, number: int, feed: dict[str, Tensor]) -> Tensor:
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        shape = (number, feed["context"].shape[1], feed["future_covariates"].shape[1])
        with torch.cuda.stream(self._stream):  # so that torch's allocator hands the same memory out again
            captured = self._graphs.find(shape, lambda: self._capture(number, feed))
            out = captured.run(feed) if captured else self._run_once(number, feed)
        current.wait_stream(self._stream)
        out.record_stream(current)
        return out

    def _run_once(self, number: int, feed: dict[str, Tensor]) -> Tensor:
        moved = {name: on_device(x, self.device) for name, x in feed.items()}
        call = EngineCall(self._contexts[number], moved)
        call.enqueue(self._stream)
        return call.output

    def _capture(self, number: int, feed: dict[str, Tensor]) -> CapturedCall | None:
        try:
            return CapturedCall(self._context(number), feed, self.device, self._stream)
        except (RuntimeError, BuildError) as error:
            warnings.warn(f"the engine runs without CUDA graphs: {error}", RuntimeWarning, stacklevel=2)
            return None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._free.acquire(blocking=False):
            raise UsageError("two threads call one TensorRtSession at once", allowed="one session per thread")
        try:
            yield
        finally:
            self._free.release()

    def _check(self, context: Floats, future_covariates: Floats) -> None:
        for name, given, limit in (
            ("context", context.shape[1], self._info.context),
            ("horizon", future_covariates.shape[1], self._info.horizon),
        ):
            if given > limit:
                raise UsageError(
                    f"a {name} of {given} steps is longer than the engine was built for",
                    allowed=f"at most {limit} steps",
                    fix=f"chronos-export --{name} {given} --force ...",
                )
