"""Upstream with its products in tf32, as a GPU computes them: what a tf32 engine is compared with."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from chronos.chronos2 import Chronos2Model
from torch import Tensor


class InTf32:
    """A copy of an upstream model on the GPU, called with tensors of the CPU and answering with one.

    Args:
        model: The model, float32.
        device: Where it computes; tf32 needs a GPU, elsewhere float32 is computed.
    """

    def __init__(self, model: Chronos2Model, device: str = "cuda") -> None:
        self._model = copy.deepcopy(model).to(device)
        self.chronos_config = model.chronos_config

    def __call__(self, **inputs: Any) -> SimpleNamespace:
        """As the model's own forward; `quantile_preds` alone."""
        moved = {
            name: value.to(self._model.device) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
        }
        with _tf32_allowed():
            return SimpleNamespace(quantile_preds=self._model(**moved).quantile_preds.cpu())


@contextmanager
def _tf32_allowed() -> Iterator[None]:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
