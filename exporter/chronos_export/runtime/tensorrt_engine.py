"""One engine: its execution contexts, and its CUDA graphs."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from chronos_export.errors import BuildError, UsageError
from chronos_export.runtime.cuda_graphs import GraphCache
from chronos_export.runtime.profiles import profile_for
from chronos_export.runtime.tensorrt_call import CapturedCall, EngineCall, on_device
from chronos_export.runtime.tensorrt_loading import LoadedEngine


class ProfiledEngine:
    """One execution context a profile and one a CUDA graph, on one stream and in one piece of memory.

    A shape that comes back is captured in a CUDA graph, see `cuda_graphs`; not with TensorRT-RTX, which
    compiles better kernels for a shape while it already runs, and would have the first ones captured.

    Args:
        loaded: The engine.
        stream: Where it runs.
        memory: At least `scratch_bytes` of the GPU; calls take turns in it.
        graphs: The most CUDA graphs held at a time.
    """

    def __init__(self, loaded: LoadedEngine, stream: torch.cuda.Stream, memory: Tensor, graphs: int) -> None:
        self.info = loaded.info
        self._loaded, self._stream, self._memory = loaded, stream, memory
        self._contexts = [self._context(number) for number in range(len(self.info.profiles))]
        self._graphs: GraphCache[CapturedCall] = GraphCache(graphs if self.info.runtime == "tensorrt" else 0)

    def profile_of(self, rows: int, context: int, horizon: int) -> int:
        """Return the position of the profile that answers a call.

        Raises:
            UsageError: More rows, context or horizon than the engine was built for.
        """
        if horizon > self.info.horizon:
            raise UsageError(
                f"a horizon of {horizon} steps is longer than the engine was built for",
                allowed=f"at most {self.info.horizon} steps",
                fix=f"chronos-export --horizon {horizon} --force ...",
            )
        return profile_for(rows, context, self.info.profiles)

    def answer(self, number: int, feed: dict[str, Tensor]) -> Tensor:
        """Start a call on the engine's stream; the current stream waits for it.

        Args:
            number: Position of its profile.
            feed: Inputs by name, on the CPU or the GPU.

        Raises:
            BuildError: TensorRT refuses.
        """
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        shape = (number, *(tuple(x.shape) for x in feed.values()))
        with torch.cuda.stream(self._stream):  # so that torch's allocator hands the same memory out again
            captured = self._graphs.find(shape, lambda: self._capture(number, feed))
            out = captured.run(feed) if captured else self._run_once(number, feed)
        current.wait_stream(self._stream)
        out.record_stream(current)
        return out

    def _context(self, number: int) -> Any:
        managed = self._loaded.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._loaded.engine.create_execution_context(managed)
        if context is not None:
            context.set_device_memory(self._memory.data_ptr(), self._memory.numel())
        if context is None or not context.set_optimization_profile_async(number, self._stream.cuda_stream):
            raise BuildError(f"no execution context for the profile of {self.info.profiles[number]}")
        self._stream.synchronize()
        return context

    def _run_once(self, number: int, feed: dict[str, Tensor]) -> Tensor:
        moved = {name: on_device(x, self._memory.device) for name, x in feed.items()}
        call = EngineCall(self._contexts[number], moved)
        call.enqueue(self._stream)
        return call.output

    def _capture(self, number: int, feed: dict[str, Tensor]) -> CapturedCall | None:
        try:
            return CapturedCall(self._context(number), feed, self._memory.device, self._stream)
        except (RuntimeError, BuildError) as error:
            warnings.warn(f"the engine runs without CUDA graphs: {error}", RuntimeWarning, stacklevel=2)
            return None
