"""One call for every backend: rows in, forecasts out.

    ort_session.py       the ONNX graphs on onnxruntime
    openvino_session.py  the same on OpenVINO
    tensorrt_session.py  an engine
    torch_session.py     the rewritten model in PyTorch
    SingleThreaded       the graphs of another session, opened once more for calls side by side

A session answers exactly the rows it is given; cutting a batch into calls is `plan.py`'s work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from chronos_export.artifact import GENERAL, UNIVARIATE, WEIGHTS
from chronos_export.errors import IntegrityError

if TYPE_CHECKING:
    from torch import Tensor

Graph = Callable[..., "Tensor"]  # an opened graph: its inputs by name to its forecasts
OpenGraph = Callable[[str, bytes, memoryview], Graph]  # from its name, its ONNX and its weights


class Files(Protocol):
    """Where a session reads its graphs and their weights: an `Artifact`, or a `Folder`."""

    @property
    def path(self) -> Path:
        """Where they lie, for messages."""
        ...

    def read(self, name: str) -> memoryview:
        """The content of a file, in memory that no one else writes to."""
        ...


@dataclass(frozen=True)
class Folder:
    """Graphs that nobody has vouched for: the ones that were just written here."""

    path: Path

    def read(self, name: str) -> memoryview:
        """See `Files.read`."""
        return memoryview((self.path / name).read_bytes())


class Session(Protocol):
    """What the pipeline needs of a backend."""

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


@runtime_checkable
class SideBySide(Session, Protocol):
    """A session that can answer several calls at a time.

    Attributes:
        single_threaded: The same graphs, on one thread a call.
    """

    single_threaded: Session

    @property
    def workers(self) -> int:
        """How many calls are best answered at a time by `single_threaded`."""
        ...


class SingleThreaded:
    """Both graphs with one thread a call. Each takes memory from its first call on.

    Args:
        files: Where `model.onnx`, `univariate.onnx` and their weights are.
        open_graph: Opens one of them.

    Raises:
        IntegrityError: By the first call of a graph: the files are no longer those that were there before.
    """

    def __init__(self, files: Files, open_graph: OpenGraph) -> None:
        self._files, self._open_graph = files, open_graph
        self._lock, self._opened = threading.Lock(), dict[str, Graph]()

    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run`."""
        general = self._graph(GENERAL)
        return general(context=context, group_ids=group_ids, future_covariates=future_covariates)

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """See `Session.run_univariate`."""
        return self._graph(UNIVARIATE)(context=context, future_covariates=future_covariates)

    def _graph(self, name: str) -> Graph:
        with self._lock:
            if name not in self._opened:
                try:
                    graph, weights = self._files.read(name), self._files.read(WEIGHTS)
                except IntegrityError as error:
                    raise IntegrityError(
                        f"{self._files.path} was replaced after it was loaded: {error.summary}",
                        fix=f"load({str(self._files.path)!r}) again",
                    ) from error
                self._opened[name] = self._open_graph(name, bytes(graph), weights)
            return self._opened[name]


def thread_count(threads: int) -> int:
    """`threads`, or as many as PyTorch would take if that is 0."""
    import torch

    return threads or torch.get_num_threads()
