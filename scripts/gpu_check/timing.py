"""Times: medians of many calls, on buffers that take turns so that no cache is measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import TypeVar

import torch

T = TypeVar("T")

_HEAD_START = 20_000_000  # clock cycles, some 10 ms: the host enqueues ahead, so its own time is not measured
_MOST_CALLS = 50
_BUDGET_MS = 400.0


def median_ms(
    run: Callable[[T], object], inputs: Sequence[T], *, budget_ms: float = _BUDGET_MS, warm: int = 3
) -> float:
    """Median time of `run` on the GPU, each call on the next of `inputs`; on the host where there is no GPU.

    Args:
        run: What is timed.
        inputs: Large enough, taken together, not to stay in a cache.
        budget_ms: About how long to measure; at least 3 calls.
        warm: Calls before.
    """
    times = _gpu_times_ms if torch.cuda.is_available() else _host_times_ms
    turns = cycle(inputs)
    expected = times(run, islice(turns, warm))[-1]
    return statistics.median(times(run, islice(turns, _calls(expected, budget_ms))))


def latency_ms(run: Callable[[T], object], inputs: Sequence[T]) -> float:
    """Median time from a call of `run` to its answer, the host's time included; as `median_ms`."""
    turns = cycle(inputs)
    expected = _host_times_ms(run, islice(turns, 5))[-1]
    return statistics.median(_host_times_ms(run, islice(turns, _calls(expected, _BUDGET_MS))))


def _calls(expected_ms: float, budget_ms: float) -> int:
    return int(min(_MOST_CALLS, max(3, budget_ms / max(expected_ms, 1e-3))))


def _gpu_times_ms(run: Callable[[T], object], inputs: Iterable[T]) -> list[float]:
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


def _host_times_ms(run: Callable[[T], object], inputs: Iterable[T]) -> list[float]:
    found = []
    for x in inputs:
        synchronize()
        begin = time.perf_counter()
        run(x)
        synchronize()
        found.append(1e3 * (time.perf_counter() - begin))
    return found


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 products may use tf32."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32" if allowed else "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def copy_bandwidth(device: str) -> float:
    """Bytes read plus bytes written per second by a large copy on the device."""
    size = 2 * 10**9 if device == "cuda" else 10**7
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / (median_ms(target.copy_, [source]) / 1e3)


def matmul_rate(mode: str, device: str) -> float:
    """Operations per second of a large matrix product on random numbers, in one of `models.MODES`."""
    size = 8192 if device == "cuda" else 256
    dtype = torch.float32 if mode == "tf32" else getattr(torch, mode)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    with tf32(mode == "tf32"):
        return 2 * size**3 / (median_ms(lambda x: x @ b, [a]) / 1e3)
