"""One group of 20: the time from a call to its answer, most of which goes into launching kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .correctness import attempt
from .models import CONTENDERS, Batch, Contender, Forward, as_upstream, make_batch, make_upstream
from .setting import GROUP, Record, Setting, failure
from .timing import latency_ms

TABLE = "one group of 20"
MODES = ("float32", "bfloat16")
REWRITTEN = "ours, rewritten model"
COMPILED, CAPTURED = "torch.compile", "one CUDA graph"


def time_small(setting: Setting) -> Iterator[Record]:
    """One record a contender and type; what takes long to compile comes last.

    Raises:
        ImportError: chronos-forecasting or this package's needs are not installed.
    """
    upstream = make_upstream(setting).to(setting.device)
    batches = [make_batch(GROUP, setting, seed) for seed in range(2)]
    on_gpu = setting.device == "cuda"
    eager = ("upstream", "ours, accelerate", REWRITTEN)
    contenders: dict[str, Contender] = {name: CONTENDERS[name] for name in eager}
    if on_gpu:
        contenders[f"{REWRITTEN}, {CAPTURED}"] = _capturer(batches[0])
    for mode in MODES:
        for name, prepare in contenders.items():
            yield _time(mode, name, prepare, upstream, batches)
        if on_gpu:
            check = f"{CAPTURED}: the same bits, {mode}"
            prepared = (contenders[name](upstream, mode) for name in list(contenders)[-2:])
            yield from attempt(check, _same_bits(check, prepared, batches))
    for compiling in ("reduce-overhead", "default") if on_gpu else ("default",):
        for mode in MODES if on_gpu else MODES[:1]:
            yield _time(mode, f"upstream, {COMPILED} ({compiling})", _compiler(compiling), upstream, batches)


def _time(mode: str, name: str, prepare: Contender, upstream: Any, batches: list[Batch]) -> Record:
    record: Record = {"table": TABLE, "type": mode, "contender": name}
    try:
        return record | {"ms": latency_ms(prepare(upstream, mode), batches)}
    except Exception as error:
        return record | failure(name, error)


def _same_bits(check: str, prepared: Iterator[Forward], batches: list[Batch]) -> Iterator[Record]:
    eagerly, captured = prepared
    yield {"check": check, "good": all(torch.equal(captured(batch), eagerly(batch)) for batch in batches)}


def _capturer(example: Batch) -> Contender:
    return lambda upstream, mode: capture(CONTENDERS[REWRITTEN](upstream, mode), example)


def capture(forward: Forward, example: Batch) -> Forward:
    """A forward pass in one CUDA graph, for batches of the example's shape."""
    static = Batch(example.context.clone(), example.group_ids.clone())
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            forward(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = forward(static)

    def replay(batch: Batch) -> Tensor:
        static.context.copy_(batch.context)
        static.group_ids.copy_(batch.group_ids)
        graph.replay()
        return out

    return replay


def _compiler(compiling: str) -> Contender:
    def prepare(upstream: Any, mode: str) -> Forward:
        torch._dynamo.reset()
        forward = as_upstream(torch.compile(upstream, mode=compiling), mode)

        def step(batch: Batch) -> Tensor:
            torch.compiler.cudagraph_mark_step_begin()
            return forward(batch)

        return step

    return prepare
