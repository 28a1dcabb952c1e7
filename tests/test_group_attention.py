"""The reference of group attention against its definition, forward and backward."""

from __future__ import annotations

import pytest
import torch

from attention import Problem, dense, make_problem
from chronos_export.group_attention import group_attention, group_attention_reference

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


def limit(dtype: torch.dtype) -> float:
    return ROUNDINGS * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(("tokens", "heads", "head_dim"), [(5, 3, 8), (1, 1, 64), (3, 2, 4)])
def test_equals_the_dense_definition(
    lengths: list[int], dtype: torch.dtype, tokens: int, heads: int, head_dim: int
) -> None:
    problem = make_problem(lengths, tokens, heads, head_dim, dtype)
    out = group_attention_reference(*problem.args)
    assert (out.dtype, out.shape) == (dtype, problem.query.shape)
    torch.testing.assert_close(out.double(), dense(problem), rtol=0, atol=limit(dtype))
    torch.testing.assert_close(group_attention(*problem.args), out, rtol=0, atol=0)


def test_the_limit_would_show_a_scaled_score() -> None:
    problem = make_problem([6, 3])
    scaled = group_attention_reference(problem.query * 8**-0.5, *problem.args[1:])
    assert (scaled.double() - dense(problem)).abs().max() > 1000 * limit(torch.float32)


def test_dead_tokens_give_exactly_zero_and_are_not_read() -> None:
    problem = make_problem([4, 1, 3], dead=0.5)
    out = group_attention_reference(*problem.args)
    assert (~problem.alive).any()
    assert (out[~problem.alive] == 0).all()
    noise = torch.where(problem.alive[..., None], 0.0, 100.0)
    loud = Problem(*(t + noise for t in problem.args[:3]), *problem.args[3:])
    assert torch.equal(group_attention_reference(*loud.args), out)


def test_a_dead_segment_is_zero_and_leaves_the_others_alone() -> None:
    problem = make_problem([3, 2], dead=0.0)
    problem.alive[:3, 1] = False
    out = group_attention_reference(*problem.args)
    assert (out[:3, 1] == 0).all()
    assert out.isfinite().all()
    torch.testing.assert_close(out.double(), dense(problem), rtol=0, atol=limit(torch.float32))


def test_a_single_is_its_value() -> None:
    problem = make_problem([1, 1, 1], dead=0.0)
    assert torch.equal(group_attention_reference(*problem.args), problem.value)


def test_nothing_crosses_a_segment() -> None:
    """Not even an infinity."""
    problem = make_problem([3, 2, 1], dead=0.0)
    clean = group_attention_reference(*problem.args)
    for tensor in problem.args[:3]:
        tensor[3] = torch.inf
    out = group_attention_reference(*problem.args)
    assert torch.equal(out[[0, 1, 2, 5]], clean[[0, 1, 2, 5]])
    assert not out[3:5].isfinite().all()


def test_float16_scores_do_not_overflow_into_nan() -> None:
    problem = make_problem([4, 2], dtype=torch.float16, dead=0.5)
    big = Problem(problem.query * 20, problem.key * 20, *problem.args[2:])
    assert group_attention_reference(*big.args).isfinite().all()


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_gradients_are_those_of_the_definition(lengths: list[int]) -> None:
    problem = make_problem(lengths, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in problem.args[:3]]
    weight = torch.randn_like(problem.value)
    wanted = torch.autograd.grad(dense(problem), leaves, weight, allow_unused=True, materialize_grads=True)
    for function in (group_attention, group_attention_reference):
        found = torch.autograd.grad(
            function(*problem.args), leaves, weight, allow_unused=True, materialize_grads=True
        )
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_gradcheck() -> None:
    problem = make_problem([2, 1, 3], tokens=2, heads=2, head_dim=4, dtype=torch.float64)
    leaves = tuple(t.requires_grad_() for t in problem.args[:3])
    assert torch.autograd.gradcheck(lambda *qkv: group_attention(*qkv, *problem.args[3:]), leaves)


def test_opcheck() -> None:
    problem = make_problem([2, 1, 3])
    for tensor in problem.args[:3]:
        tensor.requires_grad_()
    # Not test_aot_dispatch_dynamic: the gradient runs the reference, whose loop over segment lengths
    # cannot be traced, so torch.compile takes the operator for inference only.
    utils = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.chronos.group_attention.default, problem.args, test_utils=utils)


def test_dropout_keeps_the_expectation_and_drops_singles() -> None:
    problem = make_problem([6, 1, 3], tokens=2, dead=0.0)
    torch.manual_seed(0)
    runs = 4000
    draws = torch.stack([group_attention_reference(*problem.args, dropout=0.25) for _ in range(runs)])
    error = draws.mean(0) - group_attention_reference(*problem.args)
    # The mean of n draws strays by its standard error; 5 of them is one chance in a million an element.
    assert (error.abs() < 5 * draws.std(0) / runs**0.5).all()
    single = draws[:, 6].unflatten(-1, (3, -1))
    dropped = (single == 0).all(-1)
    kept = (single - problem.value[6].unflatten(-1, (3, -1)) / 0.75).abs().amax(-1) < 1e-6
    assert (dropped ^ kept).all()  # a head of a single is dropped whole, or kept whole and scaled up
    assert abs(dropped.float().mean() - 0.25) < 5 * (0.25 * 0.75 / dropped.numel()) ** 0.5
