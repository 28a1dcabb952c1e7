"""One call for every backend: rows in, forecasts out.

    OrtSession      the ONNX graphs on onnxruntime
    TorchSession    the rewritten model in PyTorch

A session answers exactly the rows it is given; cutting a batch into calls is `plan.py`'s work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel
from torch import Tensor, nn

from chronos_export.errors import MachineError, UsageError
from chronos_export.onnx_export import GENERAL, UNIVARIATE

Array = NDArray[np.generic]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}


class Session(Protocol):
    """What the pipeline needs of a backend."""

    device: torch.device

    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """Forecast rows of any groups.

        Args:
            context: float32 [rows, context_length], NaN = missing.
            group_ids: int64 [rows].
            future_covariates: float32 [rows, horizon], NaN = unknown.

        Returns:
            float32 [rows, quantiles, horizon rounded up to whole patches].
        """
        ...

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """As `run`, for rows that are groups of their own."""
        ...


class OrtSession:
    """Both graphs on onnxruntime. Safe to call from several threads.

    Args:
        folder: Where `model.onnx`, `univariate.onnx` and their weights are.
        provider: "cpu" or "cuda".
        threads: Threads inside an operator; 0 leaves it to onnxruntime.

    Raises:
        UsageError: If the provider is not one of these.
        MachineError: If onnxruntime does not have the provider or starts another one instead.
    """

    def __init__(self, folder: Path, provider: str = "cpu", threads: int = 0) -> None:
        self.device = torch.device("cpu")
        self.provider = _provider_name(provider)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        self._general = self._open(folder / GENERAL, options)
        self._univariate = self._open(folder / UNIVARIATE, options)

    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run`."""
        feed = {"context": context, "group_ids": group_ids, "future_covariates": future_covariates}
        return _call(self._general, feed)

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run_univariate`."""
        return _call(self._univariate, {"context": context, "future_covariates": future_covariates})

    def _open(self, path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
        try:
            session = ort.InferenceSession(path, options, providers=[self.provider])
        except NoKernel as error:
            raise MachineError(
                f"onnxruntime's {self.provider} cannot run {path.name}: {error}",
                allowed="the types that it has kernels for: float32 everywhere, bfloat16 on a GPU only",
                fix="chronos-export --dtype float32 ...",
            ) from error
        if session.get_providers()[0] != self.provider:
            raise MachineError(
                f"onnxruntime runs {path.name} on {session.get_providers()[0]}, not on {self.provider}",
                fix="chronos-export doctor",
            )
        return session


class TorchSession:
    """The rewritten model in PyTorch.

    Args:
        general: `model.SegmentedChronos2`, or any module called the same way.
        univariate: `model.UnivariateChronos2`.
    """

    def __init__(self, general: nn.Module, univariate: nn.Module) -> None:
        self.device = next(general.parameters()).device
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


def _provider_name(provider: str) -> str:
    if provider not in PROVIDERS:
        raise UsageError(f"unknown provider {provider!r}", allowed=", ".join(PROVIDERS))
    name = PROVIDERS[provider]
    if name not in ort.get_available_providers():
        raise MachineError(
            f"this onnxruntime has no {name}",
            allowed=", ".join(ort.get_available_providers()),
            fix=f"pip install 'chronos-export[{provider}]'",
        )
    return name


def _call(session: ort.InferenceSession, feed: dict[str, Tensor]) -> Tensor:
    arrays = {name: tensor.contiguous().numpy() for name, tensor in feed.items()}
    (out,) = session.run(["quantile_preds"], arrays)
    return torch.from_numpy(out)
