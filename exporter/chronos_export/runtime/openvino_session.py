"""The ONNX graphs on OpenVINO: another CPU runtime of the same files.

PyTorch is imported by what is called, not by what is opened, as in `ort_session.py`.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronos_export.artifact.reading import GENERAL, UNIVARIATE
from chronos_export.errors import MachineError
from chronos_export.runtime.session import SingleThreaded, thread_count

if TYPE_CHECKING:
    from torch import Tensor


class OpenVinoSession:
    """Both graphs on OpenVINO's CPU device. Safe to call from several threads; see `session.SideBySide`.

    Args:
        folder: Where `model.onnx`, `univariate.onnx` and their weights are.
        threads: Threads a call; 0 leaves it to OpenVINO.

    Raises:
        MachineError: If OpenVINO is not installed.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        if not has_openvino():
            raise MachineError(
                "the provider openvino needs a package of that name, which is not installed",
                fix="pip install 'chronos-export[openvino]'",
            )
        self._threads = threads

        def open_for_workers(path: Path) -> _Graph:
            workers = thread_count(threads)
            return _Graph(path, {"NUM_STREAMS": workers, "INFERENCE_NUM_THREADS": workers})

        self.single_threaded = SingleThreaded(folder, open_for_workers)
        shared = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        self._general, self._univariate = (
            _Graph(folder / GENERAL, shared),
            _Graph(folder / UNIVARIATE, shared),
        )

    @property
    def workers(self) -> int:
        """See `session.SideBySide`."""
        return thread_count(self._threads)

    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """See `session.Session.run`."""
        return self._general(context=context, group_ids=group_ids, future_covariates=future_covariates)

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """See `session.Session.run_univariate`."""
        return self._univariate(context=context, future_covariates=future_covariates)


def has_openvino() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("openvino") is not None


class _Graph:
    """One compiled graph, with a request for every thread that calls it.

    Args:
        path: The graph.
        settings: OpenVINO's of streams and threads; a stream answers a call at a time.
    """

    def __init__(self, path: Path, settings: Mapping[str, int]) -> None:
        model = _core().read_model(_without_functions(path), b"")
        self._compiled = _core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **settings})
        self._local = threading.local()

    def __call__(self, **feed: Tensor) -> Tensor:
        import torch

        if "group_ids" in feed:
            # OpenVINO computes int64 in 32 bits: only small ids are safe, and only equality matters.
            _, feed["group_ids"] = feed["group_ids"].unique(return_inverse=True)
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        results = self._local.request.infer({name: x.contiguous().numpy() for name, x in feed.items()})
        return torch.from_numpy(results[0].copy())


@cache
def _core() -> Any:
    """OpenVINO itself, kept: with the last of its cores goes the stack that it made signals run on."""
    import openvino

    return openvino.Core()


def _without_functions(path: Path) -> bytes:
    """The graph with group attention's body in its place, since OpenVINO knows no local functions.

    It is the body without branches: OpenVINO 2026.4 gets a first call of one wrong.
    """
    # Imported here: whoever forecasts on onnxruntime does not wait for them.
    import onnx
    import onnx.inliner

    from chronos_export.graph.group_attention import function_body, num_heads_of

    model = onnx.load(path)
    for function in model.functions:
        function.CopyFrom(function_body(num_heads_of(model), branches=False))
    flat: bytes = onnx.inliner.inline_local_functions(model).SerializeToString()
    return flat
