"""GroupAttention's ONNX function on onnxruntime: right on ragged groups, and linear in their number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from time import perf_counter

import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_export.graph.group_attention import AT_ONCE, function_body
from tests.helpers.attention import Problem, dense, make_problem
from tests.helpers.attention_node import feed_of, one_node
from tests.helpers.memory import in_a_fresh_process


@cache
def session(heads: int, dtype: torch.dtype, arena: bool) -> ort.InferenceSession:
    """One GroupAttention node with its function."""
    model = one_node(heads, dtype)
    model.functions.append(function_body(heads))
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(problem: Problem, arena: bool = True) -> torch.Tensor:
    (out,) = session(problem.heads, problem.query.dtype, arena).run(["out"], feed_of(problem))
    return torch.from_numpy(out)


def check(problem: Problem) -> None:
    """Against the dense definition in float64, with the rounding of two dozen products."""
    out = run(problem)
    limit = 32 * torch.finfo(problem.query.dtype).eps
    torch.testing.assert_close(out.double(), dense(problem), rtol=0, atol=limit)
    assert (out[~problem.alive] == 0).all()


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.one_of(st.just(1), st.integers(1, 6), st.integers(1, 40)), min_size=1, max_size=12),
    seed=st.integers(0, 2**32),
    dead=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_equals_the_definition_on_any_segments(lengths: list[int], seed: int, dead: float) -> None:
    check(make_problem(lengths, tokens=3, seed=seed, dead=dead))


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(2, 24),
    segments=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    dead=st.sampled_from([0.0, 0.3, 0.9]),
    heads=st.integers(1, 3),
)
def test_equals_the_definition_on_segments_of_one_length(
    length: int, segments: int, seed: int, dead: float, heads: int
) -> None:
    check(make_problem([length] * segments, tokens=3, heads=heads, seed=seed, dead=dead))


@pytest.mark.parametrize(
    "lengths", [[1], [1] * 5, [2], [2, 2], [64], [1, 63], [2, 3, 5, 8, 13, 21, 34, 55]], ids=str
)
@pytest.mark.parametrize(("heads", "head_dim"), [(1, 8), (3, 4), (2, 64)])
def test_every_lane(lengths: list[int], heads: int, head_dim: int) -> None:
    check(make_problem(lengths, heads=heads, head_dim=head_dim))


@pytest.mark.parametrize("lengths", [[AT_ONCE], [AT_ONCE + 1], [150, 150], [3, 200, 1, 140, 130]], ids=str)
def test_large_segments_token_by_token(lengths: list[int]) -> None:
    check(make_problem(lengths))


@pytest.mark.parametrize("lengths", [[1, 5, 2, 9], [5, 5, 5], [150, 150]], ids=str)
def test_float16(lengths: list[int]) -> None:
    """Scores are added and normalized in float32."""
    check(make_problem(lengths, dtype=torch.float16))


@pytest.mark.parametrize("lengths", [[3, 1, 2], [3, 3]], ids=str)
def test_no_alive_token_at_all(lengths: list[int]) -> None:
    problem = make_problem(lengths)
    problem.alive[:] = False
    assert (run(problem) == 0).all()


def test_an_infinity_stays_in_its_segment() -> None:
    for lengths, others in (([3, 2, 1], [0, 1, 2, 5]), ([3, 3], [0, 1, 2])):
        problem = make_problem(lengths, dead=0.0)
        clean = run(problem)
        for tensor in problem.args[:3]:
            tensor[3] = torch.inf
        assert torch.equal(run(problem)[others], clean[others])


def seconds(lengths: Sequence[int], repeats: int = 7) -> float:
    """The best of some runs: what the work takes when nothing else disturbs it."""
    problem = make_problem(lengths, tokens=12, heads=4, head_dim=16, dead=0.0)

    def once() -> float:
        begin = perf_counter()
        run(problem)
        return perf_counter() - begin

    once()
    return min(once() for _ in range(repeats))


def test_one_large_group_among_singles_costs_at_most_twice_the_ideal() -> None:
    ideal = seconds([500]) + seconds([1] * 1500)
    assert seconds([500, *[1] * 1500]) <= 2 * ideal
    assert seconds([*[1] * 750, 500, *[1] * 750]) <= 2 * ideal


@pytest.mark.parametrize("length", [1, 5, 20])
def test_time_is_linear_in_the_number_of_groups(length: int) -> None:
    few, many = (seconds([length] * (rows // length)) for rows in (500, 4000))
    # Dense would be 64 times. The margin is for caches: 500 rows fit where 4000 do not.
    assert many <= 8 * few * 1.5


MEASURE = """
from functools import partial
from tests.helpers.attention import make_problem
from tests.helpers.memory import peaks
from tests.graph.test_function_body import run
problems = [make_problem([20] * (rows // 20), tokens=12, heads=4, head_dim=16, dead=0.0)
            for rows in (20, 2000, 4000, 8000)]
run(problems[0], arena=False)
print(peaks(*(partial(run, problem, arena=False) for problem in problems[1:])))
"""


def test_memory_is_linear_in_rows() -> None:
    """Twice the rows, twice the peak; dense scores would take four times."""
    small, medium, large = in_a_fresh_process(MEASURE)
    assert small > 2000 * 12 * 64 * 4  # at least one copy of the output: the measure measures
    assert medium <= 2.2 * small
    assert large <= 2.2 * medium


LARGE = MEASURE.replace("[20] * (rows // 20)", "[rows]").replace("(20, 2000, 4000, 8000)", "(150, 500, 1000)")


def test_a_large_group_holds_the_scores_of_one_token() -> None:
    _, peak = in_a_fresh_process(LARGE)
    of_a_token = 4 * 1000**2 * 4  # heads, pairs, bytes
    assert of_a_token < peak < 6 * of_a_token  # at once: 12 tokens of them, and some copies
