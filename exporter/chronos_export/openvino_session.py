"""The ONNX graphs on OpenVINO: another CPU runtime of the same files."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path

import onnx
import onnx.inliner
import torch
from torch import Tensor

from chronos_export.errors import MachineError
from chronos_export.onnx_export import GENERAL, UNIVARIATE


class OpenVinoSession:
    """Both graphs on OpenVINO's CPU device. Safe to call from several threads.

    Args:
        folder: Where `model.onnx`, `univariate.onnx` and their weights are.

    Raises:
        MachineError: If OpenVINO is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if not has_openvino():
            raise MachineError(
                "the provider openvino needs a package of that name, which is not installed",
                fix="pip install 'chronos-export[openvino]'",
            )
        self.device = torch.device("cpu")
        self._general, self._univariate = _Graph(folder / GENERAL), _Graph(folder / UNIVARIATE)

    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """See `session.Session.run`."""
        # OpenVINO computes int64 in 32 bits: only small ids are safe, and only equality matters.
        _, small_ids = group_ids.unique(return_inverse=True)
        return self._general(context=context, group_ids=small_ids, future_covariates=future_covariates)

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """See `session.Session.run_univariate`."""
        return self._univariate(context=context, future_covariates=future_covariates)


def has_openvino() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("openvino") is not None


class _Graph:
    """One compiled graph, with a request for every thread that calls it."""

    def __init__(self, path: Path) -> None:
        import openvino

        core = openvino.Core()
        # OpenVINO knows no local functions, so the operator's body is put in its place.
        proto = onnx.inliner.inline_local_functions(onnx.load(path))
        model = core.read_model(proto.SerializeToString(), b"")
        self._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._local = threading.local()

    def __call__(self, **feed: Tensor) -> Tensor:
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        results = self._local.request.infer({name: x.contiguous().numpy() for name, x in feed.items()})
        return torch.from_numpy(results[0].copy())
