"""The engines of an artifact behind the call of `session.Session`.

An execution context holds the state of one call, so a session answers one thread at a time and refuses a
second. Give every thread a session of its own; they may share the `LoadedEngine`s.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chronos_export.errors import MachineError, UsageError
from chronos_export.runtime.session import Floats, Ints
from chronos_export.runtime.tensorrt_engine import ProfiledEngine
from chronos_export.runtime.tensorrt_loading import LoadedEngine

CUDA = torch.device("cuda")
GRAPHS = 8  # of an engine
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
    """The engine of the general graph, that of the univariate graph, or both, in one piece of memory.

    Args:
        general: See `tensorrt_loading.load_engine`; None where only univariate rows are asked.
        univariate: The same; None leaves univariate rows to the general engine.
        device: The GPU they were deserialized on.
        graphs: The most CUDA graphs held at a time by each engine.

    Raises:
        MachineError: The GPU has too little memory left.
    """

    def __init__(
        self,
        general: LoadedEngine | None,
        univariate: LoadedEngine | None = None,
        device: torch.device = CUDA,
        graphs: int = GRAPHS,
    ) -> None:
        self.device, self._free = device, threading.Lock()
        loaded = [engine for engine in (general, univariate) if engine]
        stream, memory = torch.cuda.Stream(), _scratch(max(engine.scratch_bytes for engine in loaded), device)
        engines = {id(engine): ProfiledEngine(engine, stream, memory, graphs) for engine in loaded}
        self._general, self._univariate = engines.get(id(general)), engines.get(id(univariate))

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        """See `session.Session.run`; raises what `start` raises."""
        return self.start(context, group_ids, future_covariates).wait()

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        """See `session.Session.run_univariate`; raises what `start` raises."""
        return self.start_univariate(context, future_covariates).wait()

    def start(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> OnItsWay:
        """See `session.Deferred.start`.

        Raises:
            UsageError: More rows, context or horizon than the engine was built for, two calls at once, or
                rows in groups where there is no engine for them.
        """
        if self._general is None:
            if len(np.unique(group_ids)) == len(group_ids):
                return self.start_univariate(context, future_covariates)
            raise UsageError(
                "the artifact's engine is for rows without groups",
                allowed="run_univariate",
                fix="chronos-export --attention plugin --force ...",
            )
        return self._start(self._general, context, future_covariates, group_ids)

    def start_univariate(self, context: Floats, future_covariates: Floats) -> OnItsWay:
        """See `session.Deferred.start_univariate`; raises what `start` raises."""
        if self._univariate is not None:
            return self._start(self._univariate, context, future_covariates)
        assert self._general is not None
        return self._start(self._general, context, future_covariates, np.arange(len(context)))

    def _start(
        self, engine: ProfiledEngine, context: Floats, future: Floats, group_ids: Ints | None = None
    ) -> OnItsWay:
        rows, length = context.shape
        number = engine.profile_of(rows, length, future.shape[1])
        steps = min(-(-length // STEPS) * STEPS, engine.info.profiles[number].context)
        with self._alone():
            feed = {"context": self._staged(context, steps), "future_covariates": self._staged(future)}
            if group_ids is not None:
                feed["group_ids"] = self._staged(group_ids)
            return OnItsWay(engine.answer(number, {name: torch.from_numpy(x) for name, x in feed.items()}))

    def _staged(self, x: NDArray[Any], steps: int | None = None) -> NDArray[Any]:
        """A copy in page-locked memory, from where a GPU fetches it; missing steps come before it."""
        shape = x.shape if steps is None else (len(x), steps)
        kind = torch.from_numpy(np.empty(0, x.dtype)).dtype
        out: NDArray[Any] = torch.empty(shape, dtype=kind, pin_memory=self.device.type == "cuda").numpy()
        before = shape[-1] - x.shape[-1]
        out[..., before:] = x
        if before:
            out[..., :before] = np.nan
        return out

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._free.acquire(blocking=False):
            raise UsageError("two threads call one TensorRtSession at once", allowed="one session per thread")
        try:
            yield
        finally:
            self._free.release()


def _scratch(size: int, device: torch.device) -> Tensor:
    """The memory that calls take turns in."""
    try:
        return torch.empty(size, dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError as error:
        left = torch.cuda.mem_get_info()[0]
        raise MachineError(
            f"calls take {size / 2**30:.1f} GiB of scratch, and the GPU has {left / 2**30:.1f} GiB left",
            fix=f"chronos-export --memory {left / 2**30:.1f}GiB --force ...",
        ) from error
