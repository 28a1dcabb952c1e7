"""Forecasts on their way to the CPU, so that a GPU can answer the next call meanwhile."""

from __future__ import annotations

import torch
from torch import Tensor


class Fetch:
    """The copy of a session's forecast to the CPU, under way from now on.

    Args:
        forecast: What the session answered; on a GPU perhaps not computed yet.
    """

    def __init__(self, forecast: Tensor) -> None:
        self._copy, self._done = forecast, None
        if forecast.is_cuda:
            self._copy = torch.empty(forecast.shape, dtype=forecast.dtype, pin_memory=True)
            self._copy.copy_(forecast, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(forecast.device))  # where the copy was enqueued

    def wait(self) -> Tensor:
        """The forecast, on the CPU."""
        if self._done is not None:
            self._done.synchronize()
        return self._copy
