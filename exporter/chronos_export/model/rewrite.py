"""Upstream's weights into `model.py`: every one of them used exactly once.

The rewritten model adopts upstream's own Linear modules and parameters, it does not copy them. So the same
code serves the export, where it runs on a checkpoint of its own, and `accelerate`, where training must reach
upstream's weights (and any LoRA layer that wraps them).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeVar

from chronos.chronos2 import Chronos2Model
from torch import nn

from chronos_export.errors import BuildError, UsageError
from chronos_export.model import segmented as m

A = TypeVar("A", bound=m.Attention)


def rewrite(upstream: Chronos2Model) -> m.SegmentedChronos2:
    """The sorted-segment form of an upstream model, sharing its weights.

    Args:
        upstream: A loaded Chronos-2 model of any size.

    Returns:
        A module with upstream's weights and training mode.

    Raises:
        BuildError: If a weight of `upstream` has no place in the rewritten model, or more than one.
        UsageError: If the configuration asks for what Chronos-2's forward itself cannot do.
    """
    config = upstream.chronos_config
    if not config.use_reg_token:
        raise UsageError(
            "this configuration has use_reg_token = false",
            allowed="Chronos-2 checkpoints with a [REG] token, which upstream's forward requires",
        )
    if config.input_patch_size != config.input_patch_stride:
        raise UsageError(
            f"input_patch_stride {config.input_patch_stride} differs from input_patch_size "
            f"{config.input_patch_size}",
            allowed="patches that do not overlap",
        )
    sizes = sizes_of(upstream)
    rewritten = m.SegmentedChronos2(
        embedding=_residual(upstream.input_patch_embedding),
        reg_token=upstream.shared.weight,
        encoder=encoder_of(upstream.encoder, sizes),
        head=_residual(upstream.output_patch_embedding),
        sizes=sizes,
    )
    _check_every_weight_used_once(upstream, rewritten)
    return rewritten.train(upstream.training)


def sizes_of(upstream: Chronos2Model) -> m.Sizes:
    """The sizes that the rewritten model needs, all read from the configuration."""
    core, config = upstream.config, upstream.chronos_config
    return m.Sizes(
        num_heads=core.num_heads,
        head_dim=core.d_kv,
        patch=config.input_patch_size,
        quantiles=len(config.quantiles),
        context_length=config.context_length,
        time_scale=float(config.time_encoding_scale),
        rope_theta=core.rope_theta,
        use_arcsinh=config.use_arcsinh,
        reg_token_id=core.reg_token_id,
        activation=core.dense_act_fn,
    )


def encoder_of(encoder: Any, sizes: m.Sizes) -> m.Encoder:
    """The sorted-segment form of upstream's encoder, sharing its weights and what is being trained of it."""
    blocks = [_block(block, sizes) for block in encoder.block]
    return m.Encoder(blocks, _norm(encoder.final_layer_norm), sizes, encoder.dropout)


def univariate(segmented: m.SegmentedChronos2) -> m.UnivariateChronos2:
    """The form for rows that are groups of their own, with W_o W_v as one matrix.

    Args:
        segmented: The rewritten model; its weights are shared, but for the products.

    Returns:
        A module whose forward takes no group ids.
    """
    blocks = [_univariate_block(block) for block in segmented.encoder.blocks]
    encoder = m.Encoder(blocks, segmented.encoder.final_norm, segmented.sizes, segmented.encoder.dropout)
    model = m.UnivariateChronos2(
        segmented.embedding, segmented.reg_token, encoder, segmented.head, segmented.sizes
    )
    return model.train(segmented.training)


def _univariate_block(block: Any) -> m.Block:
    group = m.SingleRow(_product(block.group.o, block.group.v))
    return m.Block(
        block.time_norm, block.time, block.group_norm, group, block.forward_norm, block.feed_forward
    )


def _product(outer: nn.Linear, inner: nn.Linear) -> nn.Linear:
    """One Linear for outer(inner(x)), multiplied in float64."""
    weight = (outer.weight.double() @ inner.weight.double()).to(inner.weight.dtype).detach()
    linear = nn.Linear(inner.in_features, outer.out_features, bias=False, device="meta")
    linear.weight = nn.Parameter(weight)
    return linear


def _block(block: Any, sizes: m.Sizes) -> m.Block:
    time, group, forward = block.layer
    mlp = forward.mlp
    return m.Block(
        time_norm=_norm(time.layer_norm),
        time=_attention(m.TimeAttention, time, sizes),
        group_norm=_norm(group.layer_norm),
        group=_attention(m.GroupAttention, group, sizes),
        forward_norm=_norm(forward.layer_norm),
        feed_forward=m.FeedForward(mlp.wi, mlp.wo, mlp.act, mlp.dropout, forward.dropout),
    )


def _attention(kind: type[A], layer: Any, sizes: m.Sizes) -> A:
    a = layer.self_attention
    rewritten = kind(a.q, a.k, a.v, a.o, sizes.num_heads, a.dropout, layer.dropout)
    rewritten.training = a.training  # of this module alone: `train` would change upstream's inside it
    return rewritten


def _norm(norm: Any) -> m.RMSNorm:
    return m.RMSNorm(norm.weight, norm.variance_epsilon)


def _residual(block: Any) -> m.ResidualMLP:
    return m.ResidualMLP(
        block.hidden_layer, block.output_layer, block.residual_layer, block.act, block.dropout
    )


def _check_every_weight_used_once(upstream: nn.Module, rewritten: nn.Module) -> None:
    uses = Counter(id(parameter) for _, parameter in rewritten.named_parameters(remove_duplicate=False))
    wrong = [
        f"{name} ({uses[id(parameter)]} times)"
        for name, parameter in upstream.named_parameters()
        if uses[id(parameter)] != 1
    ]
    foreign = len(uses.keys() - {id(parameter) for parameter in upstream.parameters()})
    if wrong or foreign:
        raise BuildError(
            f"the rewritten model does not use every upstream weight exactly once: {', '.join(wrong)}"
            f"{f'; {foreign} weights are not upstream' if foreign else ''}",
            allowed="the layers of Chronos-2 as chronos-forecasting 2.3 defines them",
        )
