"""A deserialized engine behind the call of `session.Session`.

Not safe to share between threads: an execution context holds the state of one call. Give every thread a
session of its own; they may share the `LoadedEngine`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from chronos_export.engine_info import EngineInfo
from chronos_export.engine_load import LoadedEngine
from chronos_export.errors import BuildError, UsageError
from chronos_export.padding import pad_rows, smallest_profile

OUTPUT = "quantile_preds"


class TensorRtSession:
    """One execution context a profile, on the GPU that torch is on.

    Args:
        loaded: The engine, see `engine_load.load_engine`.
        info: What it was built for.
    """

    def __init__(self, loaded: LoadedEngine, info: EngineInfo) -> None:
        self.device = torch.device("cuda")
        self._loaded, self._info = loaded, info
        self._stream = torch.cuda.Stream()
        self._contexts = [self._context(number) for number in range(len(info.profiles))]
        self._outputs: dict[tuple[int, ...], Tensor] = {}

    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """See `session.Session.run`; tensors may be on the CPU or the GPU, the forecast is on the GPU.

        Raises:
            UsageError: More rows, context or horizon than the engine was built for.
        """
        self._check(context, future_covariates)
        rows = len(group_ids)
        number = smallest_profile(rows, self._info.profiles)
        inputs = [x.to(self.device, non_blocking=True) for x in (context, group_ids, future_covariates)]
        padded = pad_rows(inputs[0], inputs[1], inputs[2], self._info.profiles[number])
        feed = dict(zip(("context", "group_ids", "future_covariates"), padded, strict=True))
        return self._execute(self._contexts[number], feed)[:rows].clone()

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
        self._stream.wait_stream(current)
        kept = {name: tensor.contiguous() for name, tensor in feed.items()}
        for name, tensor in kept.items():
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise BuildError(f"the engine refuses {name} of shape {tuple(tensor.shape)}")
            context.set_tensor_address(name, tensor.data_ptr())
        out = self._buffer(tuple(context.get_tensor_shape(OUTPUT)))
        context.set_tensor_address(OUTPUT, out.data_ptr())
        if not context.execute_async_v3(self._stream.cuda_stream):
            raise BuildError(f"the engine failed on {len(kept['group_ids'])} rows")
        current.wait_stream(self._stream)
        for tensor in (*kept.values(), out):
            tensor.record_stream(self._stream)
        return out

    def _buffer(self, shape: tuple[int, ...]) -> Tensor:
        """An output buffer, reused for every call of the same shape."""
        if shape not in self._outputs:
            self._outputs[shape] = torch.empty(shape, device=self.device)
        return self._outputs[shape]

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
