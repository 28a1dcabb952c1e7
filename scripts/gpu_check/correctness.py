"""The kernel against float64, and what a launch must be besides right: repeatable, capturable, confined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .compiling import EMULATED, use_kernel
from .problem import LAYOUTS, MODES, Answer, Problem, Run, answer, make_problem, share_of_bound
from .setting import OURS, Record, Setting, failure
from .timing import tf32

SEGMENTS: dict[str, list[int]] = {
    "singles": [1] * 70,
    "twenties": [20] * 7,
    "edges": [7, 15, 16, 17, 1, 31, 32, 33, 63, 64, 65, 2],
    "129": [3, 129, 1, 127],
    "one": [300],
}
_MEMORY_FOR_LARGE = 48 * 10**9
HEAD_DIMS = (8, 24, 40, 72, 96, 128)


@dataclass(frozen=True)
class Shape:
    """One check; fields as the arguments of `make_problem`."""

    name: str
    segments: list[int]
    head_dim: int = 64
    options: dict[str, Any] = field(default_factory=dict)


def shapes() -> Iterator[Shape]:
    """Every segment pattern with dead tokens; every layout; all-dead and huge scores; other head dims."""
    for name, segments in SEGMENTS.items():
        yield Shape(name, segments, options={"dead": 0.2})
    for layout in LAYOUTS:
        yield Shape(f"layout-{layout}", [1, 20, 2, 33, 17, 1], options={"layout": layout, "dead": 0.2})
    yield Shape("all-dead", [20, 1, 20], options={"dead": 1.1})
    yield Shape("huge-scores", [20, 45, 3, 70], options={"scale": 12.0})
    for head_dim in HEAD_DIMS:
        yield Shape(f"head-dim-{head_dim}", [1, 20, 2, 18], head_dim, {"dead": 0.2})


def operator(setting: Setting) -> Run:
    """The kernel that this run has compiled, on the GPU; without one its source under the host's emulator."""
    from chronos_export.model.cuda_kernel import Kernel
    from chronos_export.model.group_attention import Arguments

    if setting.device == "cuda":
        use_kernel()
        return lambda problem: torch.ops.chronos.group_attention(*problem.arguments)
    emulated = Kernel(setting.folder / EMULATED)
    return lambda problem: emulated.run(Arguments(*problem.arguments), stream=0)


def check_kernel(setting: Setting) -> Iterator[Record]:
    """All that can be checked here."""
    run, device = operator(setting), setting.device
    if device == "cpu":
        yield from check_values(run, device, tokens=1, heads=2)
        yield from check_isolation(run, device)
        yield from check_tf32(run, device)
        return
    on_gpu = (check_full_size, check_large_offsets, check_launches)
    for check in (check_values, check_isolation, check_tf32, *on_gpu):
        yield from attempt(check.__name__, check(run, device))


def attempt(name: str, records: Iterator[Record]) -> Iterator[Record]:
    """The records of a check; what it raises is its failure and does not end the others."""
    try:
        yield from records
    except Exception as error:
        yield {"check": name, **failure(OURS, error)}


def check_values(run: Run, device: str, tokens: int = 3, heads: int = 3) -> Iterator[Record]:
    """One record a shape and mode: the largest error as a share of its bound, computed from the inputs."""
    for mode, dtype in MODES.items():
        for shape in shapes():
            problem = make_problem(
                shape.segments, tokens, heads, shape.head_dim, dtype, device=device, **shape.options
            )
            share = share_of_bound(_run(run, problem, mode), _answer(problem, mode))
            yield _record(shape.name, mode, share <= 1, f"{share:.3f} of the bound")


def check_isolation(run: Run, device: str) -> Iterator[Record]:
    """A NaN or an infinity in one segment must not reach another."""
    for mode, dtype in MODES.items():
        clean = make_problem([20] * 4, 2, 2, 64, dtype, device=device)
        right = _answer(clean, mode)
        for x, poison in ((clean.key, torch.nan), (clean.value, torch.inf)):
            x[20:40] = poison
        got = _run(run, clean, mode).double()
        got[20:40] = right.output[20:40]
        share = share_of_bound(got, right)
        yield _record("isolation", mode, share <= 1, f"{share:.3f} of the bound")


def check_full_size(
    run: Run, device: str, rows: int = 2000, tokens: int = 97, heads: int = 12
) -> Iterator[Record]:
    """The shape that is timed, held against float64 at its first, a middle and its last token."""
    chosen = (0, tokens // 2, tokens - 1)
    for mode, dtype in MODES.items():
        for length in (1, 20, 500):
            problem = make_problem(
                [length] * (rows // length), tokens, heads, 64, dtype, device=device, dead=0.1
            )
            got = _run(run, problem, mode)[:, list(chosen)]
            share = max(
                share_of_bound(got[:, [i]], _answer(problem.at_tokens([token]), mode))
                for i, token in enumerate(chosen)
            )
            name = f"{rows} rows, segments of {length}"
            yield _record(name, mode, share <= 1, f"{share:.3f} of the bound")


def check_large_offsets(run: Run, device: str) -> Iterator[Record]:
    """More than 2^31 numbers in a tensor: the last rows must be as right as the first."""
    rows, tokens, heads = 30_000, 97, 12
    if torch.cuda.get_device_properties(device).total_memory < _MEMORY_FOR_LARGE:
        yield _record("over 2^31 numbers", "bfloat16", None, "needs 48 GB of memory")
        return
    problem = make_problem([20] * (rows // 20), tokens, heads, 64, torch.bfloat16, device=device)
    got = run(problem)
    shares = []
    for first in (0, rows - 40):
        part = slice(first, first + 40)
        cut = make_problem([20, 20], 1, heads, 64, torch.bfloat16, device=device)
        for target, source in (
            (cut.query, problem.query),
            (cut.key, problem.key),
            (cut.value, problem.value),
        ):
            target.copy_(source[part, -1:])
        shares.append(share_of_bound(got[part, -1:], answer(cut)))
    yield _record("over 2^31 numbers", "bfloat16", max(shares) <= 1, f"{max(shares):.3f} of the bound")


def check_launches(run: Run, device: str) -> Iterator[Record]:
    """Twice the same bits; the same bits from a CUDA graph and from another stream."""
    for mode, dtype in MODES.items():
        problem = make_problem([1, 20, 33, 100, 7] * 3, 5, 4, 64, dtype, device=device, dead=0.2)
        expected = _run(run, problem, mode)
        yield _record("same bits twice", mode, torch.equal(_run(run, problem, mode), expected))

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            elsewhere = _run(run, problem, mode)
        stream.synchronize()
        yield _record("another stream", mode, torch.equal(elsewhere, expected))

        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = _run(run, problem, mode)
        captured.fill_(float("nan"))
        graph.replay()
        yield _record("CUDA graph", mode, torch.equal(captured, expected))


def check_tf32(run: Run, device: str) -> Iterator[Record]:
    """tf32 is another kernel than float32."""
    problem = make_problem([20] * 4, 2, 2, 64, torch.float32, device=device)
    same = torch.equal(*(_run(run, problem, mode) for mode in ("float32", "tf32")))
    yield _record("not the bits of float32", "tf32", not same)


def _run(run: Run, problem: Problem, mode: str) -> Tensor:
    with tf32(mode == "tf32"):
        return run(problem)


def _answer(problem: Problem, mode: str) -> Answer:
    return answer(problem, tf32=mode == "tf32")


def _record(name: str, mode: str, good: bool | None, detail: str = "") -> Record:
    return {"check": f"{name}, {mode}", "good": good, "detail": detail}
