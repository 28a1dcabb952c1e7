"""The rewritten model in PyTorch, asked as every backend is."""

from __future__ import annotations

import torch
from torch import nn

from chronos_export.runtime.session import Floats, Ints


class TorchSession:
    """The rewritten model in PyTorch.

    Args:
        general: `model.SegmentedChronos2`, or any module called the same way.
        univariate: `model.UnivariateChronos2`.
    """

    def __init__(self, general: nn.Module, univariate: nn.Module) -> None:
        self._general, self._univariate = general, univariate

    @torch.no_grad()
    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        """See `Session.run`."""
        out: Floats = self._general(*map(torch.from_numpy, (context, group_ids, future_covariates))).numpy()
        return out

    @torch.no_grad()
    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        """See `Session.run_univariate`."""
        out: Floats = self._univariate(torch.from_numpy(context), torch.from_numpy(future_covariates)).numpy()
        return out
