"""Times on the GPU: CUDA events, the median of many, buffers that take turns so that no cache is measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice
from typing import TypeVar

import torch

T = TypeVar("T")


_HEAD_START = 20_000_000  # clock cycles, some 10 ms: the host enqueues ahead, so its own time is not measured


def median_ms(run: Callable[[T], object], inputs: Sequence[T], *, budget_ms: float = 400.0) -> float:
    """Median time of `run`, each call on the next of `inputs`.

    Args:
        run: What is timed; called 3 times before.
        inputs: Large enough, taken together, not to stay in a cache.
        budget_ms: About how long to measure; at least 3 and at most 50 calls.
    """
    turns = cycle(inputs)
    expected = _times_ms(run, islice(turns, 3))[-1]
    calls = int(min(50, max(3, budget_ms / max(expected, 1e-3))))
    return statistics.median(_times_ms(run, islice(turns, calls)))


def _times_ms(run: Callable[[T], object], inputs: Iterable[T]) -> list[float]:
    torch.cuda.synchronize()
    torch.cuda._sleep(_HEAD_START)
    events = []
    for x in inputs:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run(x)
        end.record()
        events.append((begin, end))
    torch.cuda.synchronize()
    return [float(begin.elapsed_time(end)) for begin, end in events]


def copy_bandwidth(gigabytes: float = 2.0) -> float:
    """Bytes read plus bytes written per second by a large copy on the device."""
    size = int(gigabytes * 1e9)
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size / (median_ms(target.copy_, [source]) / 1e3)


def matmul_rate(dtype: torch.dtype, size: int = 8192) -> float:
    """Operations per second of a large matrix product on random numbers."""
    a = torch.randn(size, size, device="cuda").to(dtype)
    b = torch.randn(size, size, device="cuda").to(dtype)
    return 2 * size**3 / (median_ms(lambda x: x @ b, [a]) / 1e3)
