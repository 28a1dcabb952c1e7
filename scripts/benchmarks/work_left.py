"""The arithmetic that remains after what can be removed exactly."""

from __future__ import annotations

import torch
from chronos.chronos2.config import Chronos2CoreConfig

from chronos_export.runtime.batching import observed_length

from .workloads import Workload


def flops_left(config: Chronos2CoreConfig, work: Workload) -> float:
    """Multiply-adds times two of a batch, with every token that can be left out left out.

    Groups of one need no group query, key or scores and one matrix for W_o W_v; the last block is computed at
    the output tokens, but for its time keys and values; steps before a row's first value need no tokens.
    """
    d, inner, ff = config.d_model, config.num_heads * config.d_kv, config.d_ff
    limits = config.chronos_config
    patch = limits["input_patch_size"]
    ahead = -(-work.horizon // patch)
    steps = torch.from_numpy(observed_length(work.context.isnan().numpy()))
    steps = steps.clamp(max=limits["context_length"])
    past = (steps + patch - 1) // patch
    tokens = (past + 1 + ahead).double()
    _, inverse, counts = work.group_ids.unique(return_inverse=True, return_counts=True)
    group = counts[inverse].double()
    group_cost = torch.where(group == 1, 2.0 * d * d, 2 * 4 * d * inner + 2 * 2 * inner * group)
    each = 2 * 4 * d * inner + group_cost + 2 * 2 * d * ff
    time_scores = 2 * 2 * inner * tokens
    full = tokens * (each + time_scores)
    last = ahead * (each - 2 * 2 * d * inner + time_scores) + tokens * (2 * 2 * d * inner)
    entry = (tokens - 1) * 2 * (3 * patch * ff + ff * d + 3 * patch * d)
    width = len(limits["quantiles"]) * patch
    head = ahead * 2 * (d * ff + ff * width + d * width)
    return float((full * (config.num_layers - 1) + last + entry + head).sum())
