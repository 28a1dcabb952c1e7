"""Upstream traced to ONNX by PyTorch, as public exports of it are made: dense group attention, no covariates.

Upstream's forward cannot be traced as it is. What stands in the way is left out or replaced: known
covariates, whose check for NaN depends on data, and the product of booleans that makes the group mask.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from chronos.chronos2 import Chronos2Model
from torch import Tensor, nn
from torch.export import Dim

from chronos_export.checkpoint.quiet import quiet
from chronos_export.machine.packages import require

from .variants import sharing_weights

GRAPH = "traced.onnx"
EXAMPLE = (6, 1433)  # rows and steps; a whole number of patches would be taken for the only number there is


class _Traceable(nn.Module):
    def __init__(self, model: Chronos2Model, horizon: int) -> None:
        super().__init__()
        self.model = sharing_weights(model)
        self.model.encoder._construct_and_invert_group_time_mask = _group_mask
        self.patches = -(-horizon // model.chronos_config.output_patch_size)

    def forward(self, context: Tensor, group_ids: Tensor) -> Tensor:
        out: Tensor = self.model(
            context=context, group_ids=group_ids, num_output_patches=self.patches
        ).quantile_preds
        return out


def trace(model: Chronos2Model, horizon: int, folder: Path) -> Path:
    """Upstream's model as ONNX, free in rows and context, with so many steps ahead.

    Args:
        model: Upstream's, float32.
        horizon: Steps ahead.
        folder: Where the graph is written, unless it is there.

    Returns:
        The graph: `context` float32 [rows, steps] and `group_ids` int64 [rows] to `quantile_preds`.

    Raises:
        MachineError: A package that PyTorch's exporter needs is not installed.
    """
    require("tracing", ["onnxscript"])
    if not (folder / GRAPH).exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows, steps = Dim("rows", min=1, max=4096), Dim("steps", min=17, max=8192)
        example = torch.randn(EXAMPLE), torch.arange(EXAMPLE[0])
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with quiet():
            program = torch.onnx.export(
                _Traceable(model, horizon).eval(),
                example,
                dynamo=True,
                dynamic_shapes=({0: rows, 1: steps}, {0: rows}),
                input_names=["context", "group_ids"],
                output_names=["quantile_preds"],
                opset_version=20,
                verbose=False,
            )
        assert program is not None
        program.save(folder / GRAPH, external_data=True)
    return folder / GRAPH


def _group_mask(group_ids: Tensor, attention_mask: Tensor, floating_type: torch.dtype) -> Tensor:
    """[tokens, 1, queries, keys]: 0 where a query's row may see a key, else the lowest number."""
    together = (group_ids[:, None] == group_ids[None, :]).to(floating_type)
    seen = torch.einsum("qk,kt->tqk", together, attention_mask.to(floating_type))
    return (1 - seen[:, None]) * torch.finfo(floating_type).min
