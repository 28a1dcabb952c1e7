"""The whole model: upstream's Chronos-2 with random weights against the accelerated pipeline on the same GPU.

Context 1440, 20 series a group, horizon 96, as in chronos-forecasting's pull request 442.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .timing import median_ms

CONTEXT, GROUP, PATCHES, ROWS = 1440, 20, 6, (400, 2000)
MODES = ("float32", "tf32", "bfloat16")

FULL_SIZE = {
    "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "dropout_rate": 0.0,
    "dense_act_fn": "relu", "layer_norm_epsilon": 1e-6, "rope_theta": 10000.0, "pad_token_id": 0,
    "chronos_config": {
        "context_length": 8192, "input_patch_size": 16, "input_patch_stride": 16, "output_patch_size": 16,
        "max_output_patches": 64, "quantiles": [0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99],
        "use_reg_token": True, "use_arcsinh": True, "time_encoding_scale": 8192,
    },
}  # fmt: skip


def time_model(say: Callable[[str], None]) -> dict[str, Any]:
    """One record a mode and row count: upstream's and our milliseconds, and how far the forecasts are apart.

    Raises:
        ImportError: chronos-forecasting or this package's needs are not installed.
    """
    from chronos import Chronos2Pipeline

    from chronos_export import accelerate

    upstream = make_upstream().cuda()
    ours = accelerate(Chronos2Pipeline(model=copy.deepcopy(upstream))).model
    records = []
    for mode in MODES:
        for rows in ROWS:
            record = _time_mode(mode, rows, upstream, ours)
            records.append(record)
            say(f"{mode} {rows}: {record}")
    return {"records": records, "table": [r for r in records if "ours_ms" in r]}


def make_upstream() -> Any:
    """Upstream's model at amazon/chronos-2's sizes, with random weights, on the CPU."""
    from chronos.chronos2 import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    torch.manual_seed(0)
    upstream = Chronos2Model(Chronos2CoreConfig(**FULL_SIZE)).eval()
    with torch.no_grad():
        for parameter in upstream.parameters():
            if parameter.ndim == 2:  # default weights are near zero, and attention trivially right
                parameter.normal_(std=0.6 * parameter.shape[1] ** -0.5)
    return upstream


def _time_mode(mode: str, rows: int, upstream: Any, ours: Any) -> dict[str, Any]:
    torch.backends.cuda.matmul.allow_tf32 = mode == "tf32"
    context = torch.randn(rows, CONTEXT, device="cuda").cumsum(-1)
    groups = torch.arange(rows, device="cuda") // GROUP

    def forward(model: Any) -> Tensor:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=mode == "bfloat16"):
            return model(context=context, group_ids=groups, num_output_patches=PATCHES).quantile_preds.float()

    try:
        expected, got = forward(upstream), forward(ours)
        scale = context.std(-1)[:, None, None]
        theirs, mine = median_ms(forward, [upstream]), median_ms(forward, [ours])
    except torch.OutOfMemoryError as error:
        return {"mode": mode, "rows": rows, "good": None, "detail": str(error).splitlines()[0]}
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.cuda.empty_cache()
    error = float(((got - expected).abs() / scale).max())
    return {
        "mode": mode, "rows": rows, "good": bool(torch.isfinite(got).all()),
        "upstream_ms": theirs, "ours_ms": mine,
        "speedup": theirs / mine, "largest_scaled_difference": error,
    }  # fmt: skip
