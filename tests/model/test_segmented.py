"""The rewritten model in PyTorch: forecasts, gradients, and every weight in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from chronos_export.checkpoint.loading import load_checkpoint, load_reference
from chronos_export.errors import BuildError, UsageError
from chronos_export.model import rewrite as rewriting
from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.model.segmented import arcsinh, sinh
from chronos_export.model.sorting import sort_rows
from chronos_export.validation.comparison import validate
from chronos_export.validation.exact import in_float64
from chronos_export.validation.proof import cases_of
from tests.helpers.checkpoints import make_model
from tests.helpers.torch_session import TorchSession

SIZES = ("toy", "small", "quantiles13")


def batch(rows: int = 7, length: int = 70, horizon: int = 32) -> dict[str, torch.Tensor]:
    """Ragged float64 rows of interleaved groups, some covariates known."""
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(rows, length, generator=generator, dtype=torch.float64).cumsum(1)
    context[1, :40] = torch.nan
    context[4, 20:45] = torch.nan
    future = torch.full((rows, horizon), torch.nan, dtype=torch.float64)
    future[2] = torch.randn(horizon, generator=generator, dtype=torch.float64)
    return {
        "context": context,
        "group_ids": torch.tensor([5, 0, 5, 0, 5, 9, -3])[:rows],
        "future_covariates": future,
    }


@pytest.mark.parametrize("size", SIZES)
def test_forecasts_are_upstreams(size: str, checkpoint_of: Callable[[str], str]) -> None:
    checkpoint = load_checkpoint(checkpoint_of(size))
    segmented = rewrite(checkpoint.pipeline.model)
    session = TorchSession(segmented, univariate(segmented))
    cases = cases_of(checkpoint.config)
    verdict = validate(load_reference(checkpoint).model, {"torch": session}, cases)
    assert verdict.passed, verdict.failures
    assert {result.runner for result in verdict.results} == {"torch", "torch/univariate"}


@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_upstreams(size: str) -> None:
    upstream = in_float64(make_model(size))
    inputs = batch()
    segmented = rewrite(upstream)
    names, weights = zip(*upstream.named_parameters(), strict=True)
    theirs = upstream(**inputs, num_output_patches=2).quantile_preds
    mine = segmented(**inputs)
    direction = torch.randn_like(theirs)
    wanted = torch.autograd.grad(theirs, weights, direction)
    found = torch.autograd.grad(mine, weights, direction)
    for name, one, other in zip(names, found, wanted, strict=True):
        assert other.abs().max() > 0, name
        # Sums of a few thousand float64 products: 1e-16 each, 1e-9 leaves room and shows any wrong term.
        assert (one - other).abs().max() <= 1e-9 * other.abs().max(), name


@pytest.mark.parametrize("size", SIZES)
def test_the_last_block_loses_nothing_by_computing_output_tokens_alone(size: str) -> None:
    encoder = rewrite(in_float64(make_model(size))).encoder
    x = torch.randn(5, 11, make_model(size).config.d_model, dtype=torch.float64)
    alive = torch.rand(5, 11) > 0.3
    alive[:, 6:] = True
    segments = sort_rows(torch.tensor([0, 0, 0, 1, 1]))
    whole = encoder(x, alive, segments)
    for first in (0, 1, 8, 10):
        torch.testing.assert_close(
            encoder(x, alive, segments, first), whole[:, first:], rtol=1e-12, atol=1e-12
        )


def test_order_and_names_of_groups_do_not_matter() -> None:
    segmented = rewrite(in_float64(make_model("small")))
    inputs = batch()
    straight = segmented(**inputs)
    order = torch.tensor([3, 0, 6, 5, 1, 2, 4])
    shuffled = segmented(
        inputs["context"][order], -7 * inputs["group_ids"][order], inputs["future_covariates"][order]
    )
    torch.testing.assert_close(shuffled, straight[order], rtol=1e-12, atol=1e-12)


def test_an_infinity_stays_in_its_group() -> None:
    segmented = rewrite(make_model("small"))
    inputs = {name: x.float() if x.is_floating_point() else x for name, x in batch().items()}
    clean = segmented(**inputs)
    inputs["context"][0, 60] = torch.inf
    out = segmented(**inputs)
    sick = inputs["group_ids"] == inputs["group_ids"][0]
    assert torch.equal(out[~sick], clean[~sick])
    assert not out[sick].isfinite().all()


def test_univariate_multiplies_value_and_output() -> None:
    segmented = rewrite(in_float64(make_model("small")))
    inputs = batch()
    apart = {**inputs, "group_ids": torch.arange(7)}
    lone = univariate(segmented)(inputs["context"], inputs["future_covariates"])
    torch.testing.assert_close(lone, segmented(**apart), rtol=1e-10, atol=1e-10)


def test_the_rewrite_shares_weights_and_mode() -> None:
    upstream = make_model("toy")
    assert {id(p) for p in rewrite(upstream).parameters()} == {id(p) for p in upstream.parameters()}
    assert not rewrite(upstream).training
    assert rewrite(upstream.train()).training


def test_a_left_over_weight_is_named() -> None:
    upstream = make_model("toy")
    upstream.encoder.block[1].register_parameter("surprise", nn.Parameter(torch.ones(3)))
    with pytest.raises(BuildError, match=r"encoder\.block\.1\.surprise \(0 times\)"):
        rewrite(upstream)


def test_a_weight_used_twice_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def confused(kind: Any, layer: Any, sizes: Any) -> Any:
        a = layer.self_attention
        return kind(a.q, a.q, a.v, a.o, sizes.num_heads, 0.0, layer.dropout)

    monkeypatch.setattr(rewriting, "_attention", confused)
    with pytest.raises(BuildError) as error:
        rewrite(make_model("toy"))
    assert "block.0.layer.0.self_attention.q.weight (2 times)" in str(error.value)
    assert "block.0.layer.0.self_attention.k.weight (0 times)" in str(error.value)


def test_a_weight_that_is_not_upstreams_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(norm: Any) -> Any:
        return rewriting.m.RMSNorm(nn.Parameter(norm.weight.detach().clone()), norm.variance_epsilon)

    monkeypatch.setattr(rewriting, "_norm", copied)
    with pytest.raises(BuildError, match=r"final_layer_norm\.weight \(0 times\).* are not upstream"):
        rewrite(make_model("toy"))


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-7, 1e-3, 1.0, 1e3, 1e8, 1e9, 1e13, 1e30, 3e38])
def test_arcsinh_is_torchs(value: float) -> None:
    x = torch.tensor([value, -value])
    # log(1 + t) of a small t rounds 1 + t, which costs half an epsilon of 1; the logarithm rounds once more.
    eps = torch.finfo(torch.float32).eps
    torch.testing.assert_close(arcsinh(x).double(), x.double().asinh(), rtol=4 * eps, atol=eps)


def test_sinh_is_torchs() -> None:
    x = torch.linspace(-80, 80, 1001)
    eps = torch.finfo(torch.float32).eps
    wanted = x.double().sinh()
    # Rounding exp's argument costs a relative |x| eps at most, the difference an eps near 0.
    limit = eps * (1 + x.abs()).double() * wanted.abs() + eps
    assert ((sinh(x).double() - wanted).abs() <= limit).all()


def test_no_reg_token_is_refused() -> None:
    upstream = make_model("toy")
    upstream.chronos_config.use_reg_token = False
    with pytest.raises(UsageError, match="use_reg_token = false"):
        rewrite(upstream)


def test_overlapping_patches_are_refused() -> None:
    upstream = make_model("toy")
    upstream.chronos_config.input_patch_stride = 8
    with pytest.raises(UsageError, match="input_patch_stride 8 differs from input_patch_size 16"):
        rewrite(upstream)
