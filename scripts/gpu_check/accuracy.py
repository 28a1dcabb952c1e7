"""The accuracy contract on a device: every case, the accelerated pipeline against upstream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

SOURCE = "demo"


def check_accelerated(device: str, tf32: bool = False) -> dict[str, Any]:
    """One record a case.

    Args:
        device: Where the accelerated pipeline computes; upstream, the reference, is on the CPU.
        tf32: Whether products may use tf32; the allowance is then twice what upstream loses by it.

    Raises:
        ImportError: chronos-forecasting or this package's needs are not installed.
    """
    from chronos_export import accelerate
    from chronos_export.checkpoint import load_checkpoint, load_reference
    from chronos_export.exporting import cases_of
    from chronos_export.precision import precision_of
    from chronos_export.validate import validate

    checkpoint = load_checkpoint(SOURCE)
    session = ModelSession(accelerate(checkpoint.pipeline).model.to(device))
    cases, precision = cases_of(checkpoint.config), precision_of("tf32" if tf32 else "float32")
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        verdict = validate(load_reference(checkpoint).model, {"accelerated": session}, cases, precision)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return {"records": as_records(verdict.results)}


class ModelSession:
    """An upstream model, accelerated or not, behind the call of `chronos_export.session.Session`."""

    def __init__(self, model: Any) -> None:
        self.model, self.device = model, model.device
        self._patch = model.chronos_config.output_patch_size

    @torch.inference_mode()
    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """Covariates in whole patches, as upstream's pipeline feeds them."""
        rows, horizon = future_covariates.shape
        patches = -(-horizon // self._patch)
        rest = future_covariates.new_full((rows, patches * self._patch - horizon), torch.nan)
        future = torch.cat([future_covariates, rest], dim=1)
        inputs = (context, group_ids, future)
        context, group_ids, future = (x.to(self.device) for x in inputs)
        out: Tensor = self.model(
            context=context, group_ids=group_ids, future_covariates=future, num_output_patches=patches
        ).quantile_preds
        return out

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """Every row a group of its own."""
        return self.run(context, torch.arange(len(context)), future_covariates)


def as_records(results: Iterable[Any]) -> list[dict[str, Any]]:
    """Results of `chronos_export.validate` as this script's records."""
    return [
        {
            "check": f"{result.runner}: {result.case}",
            "good": not result.problem,
            "detail": result.problem or f"{result.worst_of_limit:.3f} of what is allowed",
        }
        for result in results
    ]
