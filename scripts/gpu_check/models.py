"""The contenders at amazon/chronos-2's sizes, with random weights: upstream, and ours in PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .compiling import use_kernel
from .setting import GROUP, PATCHES, Setting
from .timing import tf32

MODES = ("float32", "bfloat16", "tf32", "float16")
HORIZON = 16 * PATCHES


@dataclass(frozen=True)
class Batch:
    """Rows in groups of 20, context float32 [rows, steps] and group ids int64 [rows]."""

    context: Tensor
    group_ids: Tensor

    @property
    def rows(self) -> int:
        return len(self.group_ids)

    @property
    def future(self) -> Tensor:
        """No known covariates, float32 [rows, horizon]."""
        return self.context.new_full((self.rows, HORIZON), torch.nan)

    def first(self, rows: int) -> Batch:
        return Batch(self.context[:rows], self.group_ids[:rows])


Forward = Callable[[Batch], Tensor]
Contender = Callable[[Any, str], Forward]  # of upstream's model and one of `MODES`


def make_batch(rows: int, setting: Setting, seed: int = 0) -> Batch:
    """Random walks; the first rows of two batches of one seed are the same."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(setting.rows[1], setting.context, generator=generator)[:rows]
    return Batch(steps.to(setting.device).cumsum(-1), torch.arange(rows, device=setting.device) // GROUP)


def make_upstream(setting: Setting) -> Any:
    """Upstream's model with random weights, on the CPU.

    Default weights leave activations near zero, where any attention is right; these make every part matter.
    """
    from chronos.chronos2 import Chronos2Model

    from chronos_export.bench.subject import full_config

    torch.manual_seed(0)
    config = full_config()
    config.update(setting.sizes)
    upstream = Chronos2Model(config).eval()
    with torch.no_grad():
        for name, parameter in upstream.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=_gain(name, config.d_kv) * parameter.shape[1] ** -0.5)
            elif "layer_norm" in name:
                parameter.fill_(1)
    return upstream


def _gain(name: str, d_kv: int) -> float:
    if name.endswith("self_attention.q.weight"):  # scores are not divided by sqrt(d_kv) later
        return float(2 * d_kv**-0.5)
    return 0.5 if "output_patch_embedding" in name else 1.5  # the output goes through sinh


def as_upstream(model: Any, mode: str) -> Forward:
    """A model called as upstream's is; narrow types by autocast, as its users do it."""
    dtype = torch.float32 if mode in ("float32", "tf32") else getattr(torch, mode)

    @torch.no_grad()
    def forward(batch: Batch) -> Tensor:
        kind = batch.context.device.type
        with tf32(mode == "tf32"), torch.autocast(kind, dtype, enabled=dtype != torch.float32):
            out = model(context=batch.context, group_ids=batch.group_ids, num_output_patches=PATCHES)
        return out.quantile_preds.float()

    return forward


def upstream_contiguous(model: Any, mode: str) -> Forward:
    """Its group mask copied, so that CUDA's fused attention takes it."""
    from chronos_export.bench.variants import contiguous_mask

    return as_upstream(contiguous_mask(model), mode)


def accelerated(model: Any, mode: str) -> Forward:
    """Upstream's pipeline with our group attention."""
    from chronos import Chronos2Pipeline

    from chronos_export import accelerate

    _use_kernel(model)
    return as_upstream(accelerate(Chronos2Pipeline(model=copy.deepcopy(model))).model, mode)


def rewritten(model: Any, mode: str) -> Forward:
    """The model that is exported, in PyTorch; in narrow types all of its weights are narrow."""
    from chronos_export.model.rewrite import rewrite

    _use_kernel(model)
    narrow = None if mode in ("float32", "tf32") else getattr(torch, mode)
    module = rewrite(copy.deepcopy(model)).to(narrow)

    @torch.no_grad()
    def forward(batch: Batch) -> Tensor:
        with tf32(mode == "tf32"):
            out: Tensor = module(batch.context, batch.group_ids, batch.future)
        return out

    return forward


def _use_kernel(model: Any) -> None:
    if model.device.type == "cuda":
        use_kernel()


CONTENDERS: dict[str, Contender] = {
    "upstream": as_upstream,
    "upstream, contiguous mask": upstream_contiguous,
    "ours, accelerate": accelerated,
    "ours, rewritten model": rewritten,
}


def spread(batch: Batch) -> Tensor:
    """What errors are divided by, [rows, 1, 1]."""
    return batch.context.std(-1)[:, None, None]
