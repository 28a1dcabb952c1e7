"""What the encoder gives for rows: the graph that embeds, on onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from chronos_export.graph_contract import EMBEDDING_OUTPUTS, EMBEDDINGS, WEIGHTS
from chronos_export.machine.packages import require_runtime
from chronos_export.runtime.cpu_runtimes import ONNXRUNTIME
from chronos_export.runtime.session import Files, Floats, Ints


@dataclass(frozen=True)
class Embedded:
    """What upstream's `encode` gives.

    Attributes:
        tokens: float32 [rows, context patches + 2, d_model].
        loc: float32 [rows, 1], the mean of each row.
        scale: float32 [rows, 1], its standard deviation.
    """

    tokens: Floats
    loc: Floats
    scale: Floats


class Embedder:
    """The graph that embeds, opened by its first call.

    Args:
        files: Where it and the weights are.
        device: "cpu" or "cuda".
        threads: Threads on a CPU; 0 leaves it to onnxruntime.
        tokens: The most rows x tokens of a call, as its caller cuts them.
    """

    def __init__(self, files: Files, device: str = "cpu", threads: int = 0, tokens: int = 800) -> None:
        self.tokens = tokens
        self._files, self._device, self._threads = files, device, threads
        self._lock = Lock()
        self._session: Any = None  # of onnxruntime

    def __call__(self, context: Floats, group_ids: Ints) -> Embedded:
        """Embed rows.

        Args:
            context: float32 [rows, context_length], NaN = missing.
            group_ids: int64 [rows].

        Raises:
            MissingPackageError: onnxruntime is not installed.
            IntegrityError: The files are no longer those that were there before.
        """
        with self._lock:
            self._session = self._session or self._opened()
        feed = {"context": np.ascontiguousarray(context), "group_ids": group_ids}
        return Embedded(*self._session.run(list(EMBEDDING_OUTPUTS), feed))

    def _opened(self) -> Any:
        require_runtime(ONNXRUNTIME, self._device)
        from chronos_export.runtime.onnxruntime_session import open_graph

        graph, weights = bytes(self._files.read(EMBEDDINGS)), self._files.read(WEIGHTS)
        return open_graph(self._files.path / EMBEDDINGS, graph, weights, self._device, self._threads)
