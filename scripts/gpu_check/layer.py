"""One layer's group attention, timed: ours and the peers, over segment lengths and types."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .correctness import operator
from .peers import PEERS
from .problem import MODES, Problem, make_problem
from .setting import OURS, Record, Setting, failure
from .timing import copy_bandwidth, median_ms, tf32

TABLE = "one layer"
HEAD_DIM = 64
# A peer further from ours than this has computed something else.
MAX_ERROR = {"float32": 1e-3, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 5e-2}


def time_layers(setting: Setting) -> Iterator[Record]:
    """One record a type, segment length and implementation; ours has its share of the copy bandwidth."""
    run = operator(setting)
    bandwidth = copy_bandwidth(setting.device)
    for mode in setting.modes:
        for length in sorted(setting.segments, key=lambda length: length != 20):
            with tf32(mode == "tf32"):
                yield from _time_one(run, setting, mode, length, bandwidth)


def bytes_moved(setting: Setting, dtype: torch.dtype, length: int) -> int:
    """Least bytes of a layer: queries, keys, values, outputs; of rows alone in their group, the last two."""
    rows, tokens, heads = setting.layer
    return rows * tokens * heads * HEAD_DIM * dtype.itemsize * (2 if length == 1 else 4)


def _time_one(
    run: Callable[[Problem], Tensor], setting: Setting, mode: str, length: int, bandwidth: float
) -> Iterator[Record]:
    rows, tokens, heads = setting.layer
    dtype = MODES[mode]
    problems = [
        make_problem(
            [length] * (rows // length), tokens, heads, HEAD_DIM, dtype, device=setting.device, seed=i
        )
        for i in range(2)
    ]
    common = {"table": TABLE, "type": mode, "segment": length}
    expected = run(problems[0])
    ms = median_ms(run, problems)
    achieved = bytes_moved(setting, dtype, length) / (ms / 1e3)
    yield {**common, "contender": OURS, "ms": ms, "of copy bandwidth": achieved / bandwidth}
    for name, prepare in PEERS.items():
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            yield {**common, "contender": name, **_time_peer(prepare(problems[0]), problems, expected, mode)}
        except Exception as error:
            yield {**common, "contender": name, **failure(name, error)}


def _time_peer(
    peer: Callable[[Problem], Tensor], problems: list[Problem], expected: Tensor, mode: str
) -> Record:
    error = float((peer(problems[0]) - expected).abs().max())
    if not error <= MAX_ERROR[mode]:
        return {"ms": None, "why": f"differs from ours by {error:.3g}"}
    return {"ms": median_ms(peer, problems, budget_ms=200), "error": error}
