"""One layer's group attention, timed: ours and the peers, over segment lengths and types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .peers import PEERS
from .problem import Problem, Run, make_problem
from .timing import copy_bandwidth, matmul_rate, median_ms

ROWS, TOKENS, HEADS, HEAD_DIM = 2000, 97, 12, 64
SEGMENT_LENGTHS = (1, 5, 20, 100, 500, 2000)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OURS = "ours"
# A peer further from ours than this has computed something else.
MAX_ERROR = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def time_layers(run: Run, say: Callable[[str], None]) -> dict[str, Any]:
    """Time every (type, length, implementation).

    Returns:
        {"copy_bandwidth": bytes/s, "matmul": {dtype: operations/s}, "times": [records]}; a record has dtype,
        segment, name, ms (or None and why), and of ours the share of the copy bandwidth.
    """
    bandwidth = copy_bandwidth()
    rates = {_name(dtype): matmul_rate(dtype) for dtype in DTYPES}
    records: list[dict[str, Any]] = []
    for dtype in DTYPES:
        for length in SEGMENT_LENGTHS:
            for record in _time_one(run, dtype, length, bandwidth):
                records.append(record)
                result = record["ms"] or record["why"]
                say(f"{record['dtype']} {length:5} {record['name']:32} {result}")
    return {"copy_bandwidth": bandwidth, "matmul": rates, "times": records}


def bytes_moved(dtype: torch.dtype, length: int) -> int:
    """Least bytes of a layer: queries, keys, values, outputs; of rows alone in their group, the last two."""
    numbers = ROWS * TOKENS * HEADS * HEAD_DIM
    return numbers * dtype.itemsize * (2 if length == 1 else 4)


def _time_one(run: Run, dtype: torch.dtype, length: int, bandwidth: float) -> Iterator[dict[str, Any]]:
    problems = [
        make_problem([length] * (ROWS // length), TOKENS, HEADS, HEAD_DIM, dtype, device="cuda", seed=seed)
        for seed in range(2)
    ]
    common = {"dtype": _name(dtype), "segment": length}
    expected = run(problems[0])
    ms = median_ms(run, problems)
    achieved = bytes_moved(dtype, length) / (ms / 1e3)
    yield {**common, "name": OURS, "ms": ms, "bandwidth_share": achieved / bandwidth}
    for name, prepare in PEERS.items():
        torch.cuda.empty_cache()
        try:
            yield {**common, "name": name, **_time_peer(prepare(problems[0]), problems, expected)}
        except Exception as error:  # whatever a peer cannot do is its line in the table
            yield {**common, "name": name, "ms": None, "why": _reason(error)}


def _time_peer(
    peer: Callable[[Problem], Tensor], problems: list[Problem], expected: Tensor
) -> dict[str, Any]:
    error = float((peer(problems[0]) - expected).abs().max())
    if not error <= MAX_ERROR[expected.dtype]:
        return {"ms": None, "why": f"differs from ours by {error:.3g}"}
    return {"ms": median_ms(peer, problems, budget_ms=200), "error": error}


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:100] if lines else ''}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
