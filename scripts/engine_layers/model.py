"""Chronos-2 in its published width, with random weights and as many blocks as are asked for, as graphs."""

from __future__ import annotations

from pathlib import Path

import torch
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig

from chronos_export.checkpoint.quiet import quiet
from chronos_export.graph.precision import precision_of
from chronos_export.graph.writing import export_onnx
from chronos_export.model.rewrite import rewrite, univariate

from .sizes import Call

PATCH, HEADS, HEAD_DIM = 16, 12, 64
BLOCKS = 12  # of the published model


def published_call(rows: int, context: int, horizon: int, group: int) -> Call:
    """Return a call of a model of this width."""
    return Call(rows, context, horizon, group, PATCH, HEADS, HEAD_DIM)


def write_graphs(folder: Path, dtype: str, blocks: int) -> None:
    """Write `model.onnx`, `univariate.onnx` and their weights to `folder`."""
    config = Chronos2CoreConfig(
        d_model=HEADS * HEAD_DIM,
        d_kv=HEAD_DIM,
        d_ff=3072,
        num_layers=blocks,
        num_heads=HEADS,
        chronos_config={
            "context_length": 8192,
            "input_patch_size": PATCH,
            "input_patch_stride": PATCH,
            "max_output_patches": 64,
            "output_patch_size": PATCH,
            "quantiles": [round(0.01 + 0.049 * step, 3) for step in range(21)],
            "time_encoding_scale": 8192,
            "use_arcsinh": True,
            "use_reg_token": True,
        },
    )
    torch.manual_seed(0)
    segmented = rewrite(Chronos2Model(config).eval())
    metadata = {"config": {"chronos_config": config.chronos_config}}
    with quiet():
        export_onnx(segmented, univariate(segmented), folder, metadata, precision_of(dtype))
