"""The kernel on a GPU against float64; a launch is repeatable, capturable and confined, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scripts.benchmarks.timing import tf32
from tests.helpers.attention_problem import (
    LAYOUTS,
    MODES,
    Answer,
    Problem,
    answer,
    make_problem,
    share_of_bound,
)

Run = Callable[[Problem], Tensor]

SHAPES: dict[
    str, tuple[list[int], int, dict[str, Any]]
] = {  # name -> segments, size of a head, how it is made
    "univariate": ([1] * 70, 64, {"dead": 0.2}),
    "twenties": ([20] * 7, 64, {"dead": 0.2}),
    "edges": ([7, 15, 16, 17, 1, 31, 32, 33, 63, 64, 65, 2], 64, {"dead": 0.2}),
    "129": ([3, 129, 1, 127], 64, {"dead": 0.2}),
    "one": ([300], 64, {"dead": 0.2}),
    **{f"layout {x}": ([1, 20, 2, 33, 17, 1], 64, {"layout": x, "dead": 0.2}) for x in LAYOUTS},
    "all dead": ([20, 1, 20], 64, {"dead": 1.1}),
    "huge scores": ([20, 45, 3, 70], 64, {"scale": 12.0}),
    **{f"heads of {size}": ([1, 20, 2, 18], size, {"dead": 0.2}) for size in (8, 24, 40, 72, 96, 128)},
}
LARGE = 48 * 10**9  # bytes that more than 2^31 numbers take, four times


def ask(run: Run, problem: Problem, mode: str) -> Tensor:
    with tf32(mode == "tf32"):
        return run(problem)


def right(problem: Problem, mode: str) -> Answer:
    return answer(problem, tf32=mode == "tf32")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_within_its_bound(run: Run, device: str, name: str, mode: str) -> None:
    segments, head_dim, options = SHAPES[name]
    tokens, heads = (3, 3) if device == "cuda" else (1, 2)
    problem = make_problem(segments, tokens, heads, head_dim, MODES[mode], device=device, **options)
    assert share_of_bound(ask(run, problem, mode), right(problem, mode)) <= 1


@pytest.mark.parametrize("mode", MODES)
def test_a_nan_in_one_segment_reaches_no_other(run: Run, device: str, mode: str) -> None:
    problem = make_problem([20] * 4, 2, 2, 64, MODES[mode], device=device)
    expected = right(problem, mode)
    problem.key[20:40], problem.value[20:40] = torch.nan, torch.inf
    got = ask(run, problem, mode).double()
    got[20:40] = expected.output[20:40]
    assert share_of_bound(got, expected) <= 1


def test_tf32_is_another_kernel_than_float32(run: Run, device: str) -> None:
    problem = make_problem([20] * 4, 2, 2, 64, torch.float32, device=device)
    assert not torch.equal(ask(run, problem, "tf32"), ask(run, problem, "float32"))


@pytest.mark.parametrize("length", [1, 20, 500])
@pytest.mark.parametrize("mode", MODES)
def test_the_size_that_is_timed(run: Run, device: str, mode: str, length: int) -> None:
    """At its first, a middle and its last token."""
    rows, tokens, heads = (2000, 97, 12) if device == "cuda" else (500, 3, 1)
    problem = make_problem(
        [length] * (rows // length), tokens, heads, 64, MODES[mode], device=device, dead=0.1
    )
    got = ask(run, problem, mode)
    for token in (0, tokens // 2, tokens - 1):
        assert share_of_bound(got[:, [token]], right(problem.at_tokens([token]), mode)) <= 1


def test_more_numbers_than_an_int_counts(run: Run) -> None:
    """The last rows are as right as the first."""
    if torch.cuda.get_device_properties(0).total_memory < LARGE:
        pytest.skip("needs 48 GB of memory")
    problem = make_problem([20] * 1500, 97, 12, 64, torch.bfloat16, device="cuda")
    got = run(problem)
    for first in (0, len(got) - 40):
        part = slice(first, first + 40)
        cut = make_problem([20, 20], 1, 12, 64, torch.bfloat16, device="cuda")
        for name in ("query", "key", "value"):
            getattr(cut, name).copy_(getattr(problem, name)[part, -1:])
        assert share_of_bound(got[part, -1:], answer(cut)) <= 1


@pytest.mark.parametrize("mode", MODES)
def test_the_same_bits_again_on_another_stream_and_from_a_cuda_graph(run: Run, mode: str) -> None:
    problem = make_problem([1, 20, 33, 100, 7] * 3, 5, 4, 64, MODES[mode], device="cuda", dead=0.2)
    expected = ask(run, problem, mode)
    assert torch.equal(ask(run, problem, mode), expected)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        elsewhere = ask(run, problem, mode)
    stream.synchronize()
    assert torch.equal(elsewhere, expected)

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ask(run, problem, mode)
    captured.fill_(torch.nan)
    graph.replay()
    assert torch.equal(captured, expected)
