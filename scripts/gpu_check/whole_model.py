"""The whole model: upstream at every size of a call, and ours, in every type; time, memory and error.

Context 1440, 20 series a group, horizon 96, as in chronos-forecasting's pull request 442.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .models import CONTENDERS, HORIZON, MODES, Batch, Forward, make_batch, make_upstream, spread
from .setting import GROUP, Record, Setting, failure
from .timing import copy_bandwidth, matmul_rate, median_ms

TABLE, RATES, PEAK = "whole model", "rates", "peak, MB"
REFERENCE_ROWS = 2 * GROUP
# Of the spread of a row, where a forecast without group attention is off by more than 1. What rounding may
# cost is judged elsewhere, case by case.
MAX_ERROR, MAX_NARROW_ERROR = 1e-3, 0.5


def time_model(setting: Setting) -> Iterator[Record]:
    """The machine's rates, then one record a type, contender and number of rows.

    Raises:
        ImportError: chronos-forecasting or this package's needs are not installed.
    """
    rates = {mode: matmul_rate(mode, setting.device) for mode in MODES}
    yield {"table": RATES, "copy, TB/s": copy_bandwidth(setting.device) / 1e12} | {
        f"{mode}, TFLOP/s": rate / 1e12 for mode, rate in rates.items()
    }
    upstream = make_upstream(setting).to(setting.device)
    right = CONTENDERS["upstream"](upstream, "float32")(make_batch(REFERENCE_ROWS, setting))
    for mode in MODES:
        for name, prepare in CONTENDERS.items():
            forward = prepare(upstream, mode)
            for rows in (*(setting.calls if name == "upstream" else ()), *setting.rows):
                batch = make_batch(rows, setting)
                per_second = rates[mode] / work(upstream.config, rows, setting)
                yield measure(name, mode, forward, batch, right, per_second)
            del forward


def measure(name: str, mode: str, forward: Forward, batch: Batch, right: Tensor, per_second: float) -> Record:
    """Time, memory beyond what was there, error on the reference's rows.

    Args:
        name: Of the contender.
        mode: The type it computes in.
        forward: The contender.
        batch: What it forecasts.
        right: Upstream's answer in float32, of the first rows of the batch.
        per_second: Batches a second if every product ran at the machine's rate.
    """
    record: Record = {"table": TABLE, "type": mode, "rows": batch.rows, "contender": name}
    try:
        before = _reset_memory()
        out = forward(batch)
        peak = _peak_memory() - before
        ms = median_ms(forward, [batch], warm=1)
    except Exception as error:
        return record | failure(name, error)
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    rows = min(len(right), batch.rows)
    largest = float(((out[:rows] - right[:rows]).abs() / spread(batch)[:rows]).max())
    return record | {
        "ms": ms,
        "ms a group of 20": ms * GROUP / batch.rows,
        "of the rate": 1e3 / ms / per_second,
        PEAK: peak / 1e6,
        "error": largest,
        "good": largest < (MAX_ERROR if mode == "float32" else MAX_NARROW_ERROR),  # nor is a NaN
    }


def work(config: Any, rows: int, setting: Setting) -> float:
    """Operations of a batch, counting only the work that cannot be left out."""
    from chronos_export.bench.work_left import flops_left
    from chronos_export.bench.workloads import Workload

    batch = make_batch(rows, setting)
    return flops_left(config, Workload("", batch.context.cpu(), batch.group_ids.cpu(), HORIZON))


def _reset_memory() -> int:
    if not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak_memory() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
