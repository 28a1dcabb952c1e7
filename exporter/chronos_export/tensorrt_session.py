"""A deserialized engine behind the call of `session.Session`.

An execution context holds the state of one call, so a session answers one thread at a time and refuses a
second. Give every thread a session of its own; they may share the `LoadedEngine`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from chronos_export.engine_info import EngineInfo
from chronos_export.engine_load import LoadedEngine
from chronos_export.errors import BuildError, UsageError
from chronos_export.padding import pad_rows, smallest_profile

OUTPUT = "quantile_preds"
CUDA = torch.device("cuda")


class TensorRtSession:
    """One execution context a profile, on a stream of its own.

    Args:
        loaded: The engine, see `engine_load.load_engine`.
        info: What it was built for.
        device: The GPU it was deserialized on.
    """

    def __init__(self, loaded: LoadedEngine, info: EngineInfo, device: torch.device = CUDA) -> None:
        self.device = device
        self._loaded, self._info = loaded, info
        self._stream = torch.cuda.Stream()
        self._contexts = [self._context(number) for number in range(len(info.profiles))]
        self._free = threading.Lock()

    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """See `session.Session.run`; tensors may be on the CPU or the GPU, the forecast is on the GPU.

        Raises:
            UsageError: More rows, context or horizon than the engine was built for, or two calls at once.
        """
        self._check(context, future_covariates)
        rows = len(group_ids)
        number = smallest_profile(rows, self._info.profiles)
        inputs = [x.to(self.device, non_blocking=True) for x in (context, group_ids, future_covariates)]
        padded = pad_rows(inputs[0], inputs[1], inputs[2], self._info.profiles[number])
        feed = dict(zip(("context", "group_ids", "future_covariates"), padded, strict=True))
        with self._alone():
            return self._execute(self._contexts[number], feed)[:rows]

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """See `session.Session.run_univariate`: the engine with an id for every row."""
        return self.run(context, torch.arange(len(context)), future_covariates)

    def _context(self, number: int) -> Any:
        context = self._loaded.engine.create_execution_context()
        if context is None or not context.set_optimization_profile_async(number, self._stream.cuda_stream):
            raise BuildError(f"no execution context for the profile of {self._info.profiles[number]} rows")
        self._stream.synchronize()
        return context

    def _execute(self, context: Any, feed: dict[str, Tensor]) -> Tensor:
        current = torch.cuda.current_stream()
        kept = {name: tensor.contiguous() for name, tensor in feed.items()}
        self._stream.wait_stream(current)
        for name, tensor in kept.items():
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise BuildError(f"the engine refuses {name} of shape {tuple(tensor.shape)}")
            context.set_tensor_address(name, tensor.data_ptr())
            tensor.record_stream(self._stream)
        with torch.cuda.stream(self._stream):  # so that torch's allocator hands the same memory out again
            out = torch.empty(tuple(context.get_tensor_shape(OUTPUT)), device=self.device)
        context.set_tensor_address(OUTPUT, out.data_ptr())
        if not context.execute_async_v3(self._stream.cuda_stream):
            raise BuildError(f"the engine failed on {len(kept['group_ids'])} rows")
        current.wait_stream(self._stream)
        out.record_stream(current)
        return out

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._free.acquire(blocking=False):
            raise UsageError("two threads call one TensorRtSession at once", allowed="one session per thread")
        try:
            yield
        finally:
            self._free.release()

    def _check(self, context: Tensor, future_covariates: Tensor) -> None:
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
