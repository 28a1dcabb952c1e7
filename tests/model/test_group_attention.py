"""Group attention against its definition: forward, gradient, and as an operator that can be compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import Tensor

from chronos_export.errors import UsageError
from chronos_export.model import group_attention as module
from chronos_export.model.group_attention import (
    Arguments,
    group_attention,
    group_attention_backward,
    group_attention_reference,
)
from tests.helpers.attention import Problem, dense, make_problem
from tests.helpers.memory import in_a_fresh_process

LENGTHS = {
    "singles": [1, 1, 1],
    "one": [7],
    "ragged": [1, 5, 2, 2, 1, 9, 3],
    "even": [4, 4, 4],
    "one row": [1],
}
# Scores are of order one, so an answer is as good as the type resolves: value, weights and product each
# round once or twice, and sums of up to 24 products add a few more.
ROUNDINGS = 32


def reference(problem: Problem) -> Tensor:
    return group_attention_reference(Arguments(*problem.args))


def limit(dtype: torch.dtype) -> float:
    return ROUNDINGS * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(("tokens", "heads", "head_dim"), [(5, 3, 8), (1, 1, 64), (3, 2, 4)])
def test_equals_the_dense_definition(
    lengths: list[int], dtype: torch.dtype, tokens: int, heads: int, head_dim: int
) -> None:
    problem = make_problem(lengths, tokens, heads, head_dim, dtype)
    out = reference(problem)
    assert (out.dtype, out.shape) == (dtype, problem.query.shape)
    torch.testing.assert_close(out.double(), dense(problem), rtol=0, atol=limit(dtype))
    torch.testing.assert_close(group_attention(*problem.args), out, rtol=0, atol=0)


def test_the_limit_would_show_a_scaled_score() -> None:
    problem = make_problem([6, 3])
    scaled = reference(replace(problem, query=problem.query * 8**-0.5))
    assert (scaled.double() - dense(problem)).abs().max() > 1000 * limit(torch.float32)


def test_dead_tokens_give_exactly_zero_and_are_not_read() -> None:
    problem = make_problem([4, 1, 3], dead=0.5)
    out = reference(problem)
    assert (~problem.alive).any()
    assert (out[~problem.alive] == 0).all()
    noise = torch.where(problem.alive[..., None], 0.0, 100.0)
    loud = Problem(*(t + noise for t in problem.args[:3]), *problem.args[3:])
    assert torch.equal(reference(loud), out)


def test_a_dead_segment_is_zero_and_leaves_the_others_alone() -> None:
    problem = make_problem([3, 2], dead=0.0)
    problem.alive[:3, 1] = False
    out = reference(problem)
    assert (out[:3, 1] == 0).all()
    assert out.isfinite().all()
    torch.testing.assert_close(out.double(), dense(problem), rtol=0, atol=limit(torch.float32))


def test_a_single_is_its_value() -> None:
    problem = make_problem([1, 1, 1], dead=0.0)
    assert torch.equal(reference(problem), problem.value)


def test_nothing_crosses_a_segment() -> None:
    """Not even an infinity."""
    problem = make_problem([3, 2, 1], dead=0.0)
    clean = reference(problem)
    for tensor in problem.args[:3]:
        tensor[3] = torch.inf
    out = reference(problem)
    assert torch.equal(out[[0, 1, 2, 5]], clean[[0, 1, 2, 5]])
    assert not out[3:5].isfinite().all()


def test_float16_scores_do_not_overflow_into_nan() -> None:
    problem = make_problem([4, 2], dtype=torch.float16, dead=0.5)
    big = Problem(problem.query * 20, problem.key * 20, *problem.args[2:])
    assert reference(big).isfinite().all()


Function = Callable[..., Tensor]


def gradients(function: Function, problem: Problem, *rest: object) -> tuple[Tensor, ...]:
    """By query, key and value, of a weighted sum of the output."""
    leaves = [t.detach().requires_grad_() for t in problem.args[:3]]
    weight = torch.randn(problem.value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = function(*leaves, *problem.args[3:], *rest)
    return torch.autograd.grad(out, leaves, weight.to(out.dtype), allow_unused=True, materialize_grads=True)


def differentiable_reference(*arguments: object) -> Tensor:
    return group_attention_reference(Arguments(*arguments))


def definition(*arguments: object) -> Tensor:
    return dense(Problem(*arguments))


def strayed(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    assert [(x.dtype, x.shape) for x in found[:3]] == [(x.dtype, x.shape) for x in found[:1]] * 3
    worst = max(float((a.double() - b.double()).abs().max()) for a, b in zip(found, wanted, strict=True))
    return worst if all(x.isfinite().all() for x in found) else torch.inf


@pytest.mark.parametrize("numbers", [1, module._CPU_PIECE], ids=["a token at a time", "at once"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_gradients_are_those_of_the_definition(
    lengths: list[int], numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CPU_PIECE", numbers)
    problem = make_problem(lengths, dtype=torch.float64)
    wanted = gradients(definition, problem)
    assert strayed(gradients(group_attention, problem), wanted) < 1e-12
    assert strayed(gradients(differentiable_reference, problem), wanted) < 1e-12


@pytest.mark.parametrize("numbers", [1, module._CPU_PIECE], ids=["a token at a time", "at once"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_gradients_with_dropout_are_the_references(
    lengths: list[int], numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CPU_PIECE", numbers)
    problem = make_problem(lengths, dtype=torch.float64)
    drop = (0.4, torch.tensor(7))
    found = gradients(group_attention, problem, *drop)
    assert strayed(found, gradients(differentiable_reference, problem, *drop)) < 1e-12
    assert strayed(found, gradients(group_attention, problem)) > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gradients_in_other_types(dtype: torch.dtype) -> None:
    """Sums are in float32, so that what a type loses is what rounding the inputs and the result loses."""
    problem = make_problem(LENGTHS["ragged"], dtype=dtype)
    assert strayed(gradients(group_attention, problem), gradients(definition, problem)) < limit(dtype)


def test_dead_tokens_and_segments_have_no_gradient() -> None:
    problem = make_problem([4, 1, 3], dead=0.5)
    by_query, by_key, by_value = gradients(group_attention, problem)
    for by in (by_query, by_key, by_value):
        assert (by[~problem.alive] == 0).all()
        assert (by[problem.alive] != 0).any()
    assert (by_query[4] == 0).all()
    assert (by_key[4] == 0).all()
    assert by_value[4].any()


@pytest.mark.parametrize("rest", [(), (0.3, torch.tensor(5))], ids=["", "dropout"])
@pytest.mark.parametrize("lengths", [[2, 1, 3], [2, 2], [1, 1]], ids=str)
def test_gradcheck(lengths: list[int], rest: tuple[object, ...]) -> None:
    problem = make_problem(lengths, tokens=2, heads=2, head_dim=4, dtype=torch.float64)
    assert (~problem.alive).any()
    leaves = tuple(t.requires_grad_() for t in problem.args[:3])
    assert torch.autograd.gradcheck(lambda *qkv: group_attention(*qkv, *problem.args[3:], *rest), leaves)


# What stands in the source, and what shall.
BUGS = {
    "weights are not normalized": (".sub_((by_weight * weights).sum(-1, keepdim=True))", ""),
    "columns summed for rows": ("(by_weight * weights).sum(-1", "(by_weight * weights).sum(-2"),
    "scores learn without their weights": (".mul_(weights)", ""),
    "keys learn from the wrong rows": ("by_score.mT @ query", "by_score @ query"),
    "values learn from the wrong rows": (".mul_(kept).mT", ".mul_(kept)"),
    "queries learn from queries": ("by_score @ key", "by_score @ query"),
    "values learn by dropped weights": ("weights.mul_(kept).mT", "weights.mT"),
    "dropped weights learn": ("(by_out @ value.mT).mul_(kept)", "by_out @ value.mT"),
    "dead queries teach": ("    by_value.masked_fill_(~arguments.key_mask[..., None], 0)\n", ""),
    "dead keys learn": (".add_(_bias(alive[:, :, None, None], query.dtype))", ""),
    "other weights dropped": ("manual_seed(int(arguments.seed))", "manual_seed(0)"),
    "dropped in another order": ("for length in distinct:", "for length in distinct[::-1]:"),
    "a token left out": ("range(0, tokens, step)", "range(0, tokens - 1, step)"),
    "singles left out": ("if length > 1 or arguments.dropout > 0", "if length > 1"),
    "rows misplaced": ("out[self.rows] = x", "out[self.rows.flip(0)] = x"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_planted_into_the_gradient_is_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CPU_PIECE", 1)
    problem = make_problem(LENGTHS["ragged"], dtype=torch.float64)
    drops = ((), (0.4, torch.tensor(7)))

    def worst() -> float:
        return max(
            strayed(
                gradients(group_attention, problem, *drop),
                gradients(differentiable_reference, problem, *drop),
            )
            for drop in drops
        )

    assert worst() < 1e-12
    old, new = BUGS[bug]
    source = inspect.getsource(module).partition("@torch.library.custom_op")[0]
    assert source.count(old) == 1
    twin = ModuleType(module.__name__)
    exec(source.replace(old, new), twin.__dict__)
    twin.__dict__["_CPU_PIECE"] = 1
    monkeypatch.setattr(module, "group_attention_gradient", twin.group_attention_gradient)
    assert worst() > 1e-3


def test_no_second_derivative() -> None:
    problem = make_problem([2, 1])
    leaf = problem.query.requires_grad_()
    (first,) = torch.autograd.grad(group_attention(*problem.args).sum(), leaf, create_graph=True)
    with pytest.raises(UsageError, match="no second derivative"):
        first.sum().backward()


@pytest.mark.parametrize("rest", [(), (0.3, torch.tensor(5))], ids=["", "dropout"])
@pytest.mark.parametrize("lengths", [[2, 1, 3], [2, 2]], ids=str)
def test_opcheck(lengths: list[int], rest: tuple[object, ...]) -> None:
    problem = make_problem(lengths)
    arguments = (*problem.args, *rest)
    torch.library.opcheck(group_attention_backward, (torch.randn_like(problem.value), *arguments))
    for tensor in problem.args[:3]:
        tensor.requires_grad_()
    torch.library.opcheck(group_attention, arguments)


MEASURE = """
import torch
from tests.helpers.attention import make_problem
from chronos_export.model import group_attention as module
from tests.helpers.memory import peaks

def step(lengths, tokens):
    problem = make_problem(lengths, tokens, heads=1, head_dim=8)
    leaves = [t.requires_grad_() for t in problem.args[:3]]
    return lambda: torch.autograd.grad(module.group_attention(*problem.args).sum(), leaves)

step([2, 3], 2)()
print(peaks(step([4] * 1000, 2), step([500], 64)))
"""


def test_a_step_needs_less_memory_than_the_scores_would() -> None:
    """Neither every pair of rows of many groups, nor all tokens of a long one."""
    many, long = in_a_fresh_process(MEASURE)
    assert many < 4000**2
    assert long < 64 * 500**2 * 4 / 2


def test_dropout_keeps_the_expectation_and_drops_singles() -> None:
    problem = make_problem([6, 1, 3], tokens=2, dead=0.0)
    runs = 2000
    draws = torch.stack([group_attention(*problem.args, 0.25, torch.tensor(i)) for i in range(runs)])
    error = draws.mean(0) - reference(problem)
    # The mean of n draws strays by its standard error; 5 of them is one chance in a million an element.
    assert (error.abs() < 5 * draws.std(0) / runs**0.5).all()
    single = draws[:, 6].unflatten(-1, (3, -1))
    dropped = (single == 0).all(-1)
    kept = (single - problem.value[6].unflatten(-1, (3, -1)) / 0.75).abs().amax(-1) < 1e-6
    assert (dropped ^ kept).all()  # a head of a single is dropped whole, or kept whole and scaled up
    assert abs(dropped.float().mean() - 0.25) < 5 * (0.25 * 0.75 / dropped.numel()) ** 0.5
