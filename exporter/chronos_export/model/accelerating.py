"""Upstream's own pipeline in PyTorch, with group attention by segments: to forecast and to train.

Only the encoder's forward is replaced. Weights, their names and the saved checkpoint stay upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.model import Chronos2Encoder, Chronos2EncoderOutput
from torch import Tensor, nn
from transformers.trainer_callback import TrainerCallback

from chronos_export.errors import UsageError
from chronos_export.model.cuda_kernel import register_built
from chronos_export.model.rewrite import encoder_of, sizes_of
from chronos_export.model.sorting import sort_rows


def accelerate(pipeline: Chronos2Pipeline) -> Chronos2Pipeline:
    """Make a pipeline's cost linear in its batch.

    On a GPU group attention is the compiled kernel, if `chronos-export plugin build` has made it, and
    PyTorch's operators otherwise.

    Args:
        pipeline: An upstream pipeline on any device; its model is changed in place.

    Returns:
        A pipeline of the same model. `predict`, `embed` and `fit` give upstream's results, and `fit`
        gradients equal to upstream's. Only the embedding of a patch without any observation is another; no
        forecast depends on it. While a module inside the encoder has hooks, or attention weights are asked
        for, the encoder is computed as upstream does it, at upstream's cost: hooks see what they would see
        there.

    Raises:
        UsageError: It is not a pipeline of Chronos-2 in PyTorch. Its model is as it was.

    Source: the aim of pull request 442 of chronos-forecasting.
    """
    model = getattr(pipeline, "model", None)
    if not isinstance(model, nn.Module) or _upstream_in(model) is None:
        raise UsageError(
            f"accelerate was given {_name(pipeline)}",
            allowed="a pipeline of Chronos-2 in PyTorch",
            fix="accelerate(Chronos2Pipeline.from_pretrained(...)); what load() returns is fast as it is",
        )
    return AcceleratedPipeline(model)


class AcceleratedPipeline(Chronos2Pipeline):  # type: ignore[misc]
    """`Chronos2Pipeline` whose fine-tuning runs by segments too."""

    def __init__(self, model: nn.Module) -> None:
        _use_segments(model)
        super().__init__(model)

    def fit(self, *args: Any, callbacks: list[TrainerCallback] | None = None, **kwargs: Any) -> Any:
        """As upstream's `fit`; returns an accelerated pipeline."""
        callbacks = [*(callbacks or []), _AccelerateTraining()]
        return accelerate(super().fit(*args, callbacks=callbacks, **kwargs))


class _AccelerateTraining(TrainerCallback):
    """Upstream's `fit` trains a fresh copy of the model: that copy is changed before its first step."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        _use_segments(model)


class SegmentedEncoder(Chronos2Encoder):  # type: ignore[misc]
    """Upstream's encoder, computed on rows sorted by group."""

    sizes: Any

    def forward(
        self,
        inputs_embeds: Tensor,
        *,
        group_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool = False,
    ) -> Chronos2EncoderOutput:
        """As upstream's, and by upstream where what only its form has is wanted: attention weights, hooks."""
        if output_attentions or position_ids is not None or _has_hooks(self):
            dense: Mapping[str, Any] = {
                "group_ids": group_ids,
                "attention_mask": attention_mask,
                "position_ids": position_ids,
                "output_attentions": output_attentions,
            }
            return super().forward(inputs_embeds, **dense)
        if inputs_embeds.is_cuda:
            register_built()
        if attention_mask is None:
            attention_mask = torch.ones(inputs_embeds.shape[:2], device=inputs_embeds.device)
        encoder, alive = encoder_of(self, self.sizes), attention_mask > 0
        if not _drops_weights(self) and _all_single(group_ids):
            return Chronos2EncoderOutput(last_hidden_state=encoder(inputs_embeds, alive, None))
        segments = sort_rows(group_ids)
        hidden = encoder(inputs_embeds[segments.order], alive[segments.order], segments)
        return Chronos2EncoderOutput(last_hidden_state=hidden[segments.rank])


def _name(pipeline: object) -> str:
    model = getattr(pipeline, "model", None)
    return type(pipeline).__name__ + (f" of a {type(model).__name__}" if model is not None else "")


def _has_hooks(encoder: Chronos2Encoder) -> bool:
    """Whether anything inside the encoder is watched or changed by hooks, forward or backward."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    inside = (module for module in encoder.modules() if module is not encoder)
    return any(getattr(module, kind) for module in inside for kind in kinds)


def _drops_weights(encoder: Chronos2Encoder) -> bool:
    """Whether a block is trained; then even a weight of 1 may be dropped."""
    return any(block.layer[1].self_attention.training for block in encoder.block)


def _all_single(group_ids: Tensor) -> bool:
    """Whether every row is a group of its own; not asked of a graph, which answers any ids."""
    if torch.compiler.is_compiling() or (group_ids.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False
    return bool(group_ids.unique().numel() == len(group_ids))


def _upstream_in(model: nn.Module) -> Chronos2Model | None:
    """Upstream's model, which LoRA may have wrapped."""
    return next((module for module in model.modules() if isinstance(module, Chronos2Model)), None)


def _use_segments(model: nn.Module) -> None:
    """Change the class of the encoder of upstream's model inside `model`.

    There are several where a copy of the whole encoder is trained beside LoRA (`modules_to_save`).
    """
    upstream = _upstream_in(model)
    assert upstream is not None
    sizes = sizes_of(upstream)
    for encoder in [module for module in upstream.modules() if isinstance(module, Chronos2Encoder)]:
        encoder.sizes = sizes
        encoder.__class__ = SegmentedEncoder
