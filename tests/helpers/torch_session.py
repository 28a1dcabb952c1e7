"""The rewritten model in PyTorch, asked as every backend is."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TorchSession:
    """The rewritten model in PyTorch.

    Args:
        general: `model.SegmentedChronos2`, or any module called the same way.
        univariate: `model.UnivariateChronos2`.
    """

    def __init__(self, general: nn.Module, univariate: nn.Module) -> None:
        self._general, self._univariate = general, univariate

    @torch.no_grad()
    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run`."""
        out: Tensor = self._general(context, group_ids, future_covariates)
        return out

    @torch.no_grad()
    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run_univariate`."""
        out: Tensor = self._univariate(context, future_covariates)
        return out
