"""The ONNX graphs on OpenVINO: another CPU runtime of the same files."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chronos_export.graph_contract import INLINED, UNIVARIATE, WEIGHTS
from chronos_export.machine.cpu import available_cores
from chronos_export.machine.openvino import import_openvino
from chronos_export.runtime.onnx_weights import with_weights
from chronos_export.runtime.session import Files, Floats, Graphs, HeldFiles, Ints

NAMES = (INLINED, UNIVARIATE)
# Nodes that a stream keeps compiled for shapes it saw: those of a few calls. OpenVINO's own 5000 grow by 4 MB
# a call of a new shape, for a thousand calls.
KEPT = 50


class OpenVinoSession:
    """Both graphs on OpenVINO's CPU device. Safe to call from several threads; see `session.SideBySide`.

    Args:
        files: Where `inlined.onnx`, `univariate.onnx` and their weights are.
        threads: Threads per call; 0 leaves it to OpenVINO.
    """

    def __init__(self, files: Files, threads: int = 0) -> None:
        self._threads = threads

        def open_for_workers(_: str, graph: bytes, weights: memoryview) -> _Graph:
            workers = threads or available_cores()
            return _Graph(graph, weights, {"NUM_STREAMS": workers, "INFERENCE_NUM_THREADS": workers})

        shared = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        held = HeldFiles(files, NAMES)
        graphs, weights = [bytes(held.read(name)) for name in NAMES], held.read(WEIGHTS)
        self._general, self._univariate = (_Graph(graph, weights, shared) for graph in graphs)
        held.release()
        self.single_threaded = Graphs(held, open_for_workers, NAMES)

    @property
    def workers(self) -> int:
        """See `session.SideBySide`."""
        return self._threads or available_cores()

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        """See `session.Session.run`."""
        return self._general(context=context, group_ids=group_ids, future_covariates=future_covariates)

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        """See `session.Session.run_univariate`."""
        return self._univariate(context=context, future_covariates=future_covariates)


class _Graph:
    """One compiled graph, with a request for every thread that calls it.

    Args:
        graph: The graph.
        weights: What it keeps outside of itself.
        settings: OpenVINO's of streams and threads; a stream answers a call at a time.
    """

    def __init__(self, graph: bytes, weights: memoryview, settings: Mapping[str, int]) -> None:
        model = _core().read_model(with_weights(graph, weights), b"")
        always = {"INFERENCE_PRECISION_HINT": "f32", "CPU_RUNTIME_CACHE_CAPACITY": KEPT}
        self._compiled = _core().compile_model(model, "CPU", {**always, **settings})
        self._local = threading.local()

    def __call__(self, **feed: NDArray[Any]) -> Floats:
        if "group_ids" in feed:
            # OpenVINO computes int64 in 32 bits: only small ids are safe, and only equality matters.
            _, feed["group_ids"] = np.unique(feed["group_ids"], return_inverse=True)
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        results = self._local.request.infer({name: np.ascontiguousarray(x) for name, x in feed.items()})
        return np.array(results[0])


@cache
def _core() -> Any:
    """OpenVINO itself, kept: with the last of its cores goes the stack that it made signals run on."""
    return import_openvino().Core()
