"""One call for every runtime: rows in, forecasts out, as numpy arrays.

    onnxruntime_session.py  the ONNX graphs on onnxruntime
    openvino_session.py     the same on OpenVINO
    tensorrt_session.py     an engine
    Graphs                  both graphs of an artifact, each opened by its first call

A session answers exactly the rows it is given; cutting a batch into calls is the work of `batching.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import IntegrityError
from chronos_export.graph_contract import GENERAL, UNIVARIATE, WEIGHTS

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Graph = Callable[..., Floats]  # an opened graph: its inputs by name to its forecasts
OpenGraph = Callable[[str, bytes, memoryview], Graph]  # from its name, its ONNX and its weights


class Files(Protocol):
    """Where a session reads its graphs and their weights: an `Artifact`, or a `Folder`."""

    @property
    def path(self) -> Path:
        """Where they lie, for messages."""
        ...

    def read(self, name: str) -> memoryview:
        """Return the content of a file, in memory that no one else writes to."""
        ...

    def keep(self, name: str) -> Callable[[], memoryview]:
        """Return what reads a file later: the one that is there now, even if another takes its place."""
        ...


@dataclass(frozen=True)
class Folder:
    """Graphs that nobody has vouched for: the ones that were just written here."""

    path: Path

    def read(self, name: str) -> memoryview:
        """See `Files.read`."""
        return memoryview((self.path / name).read_bytes())

    def keep(self, name: str) -> Callable[[], memoryview]:
        """See `Files.keep`."""
        return lambda: self.read(name)


class Session(Protocol):
    """What forecasting needs of a runtime."""

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        """Forecast rows of any groups.

        Args:
            context: float32 [rows, context_length], NaN = missing.
            group_ids: int64 [rows].
            future_covariates: float32 [rows, horizon], NaN = unknown.

        Returns:
            float32 [rows, quantiles, horizon rounded up to whole patches].
        """
        ...

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        """As `run`, for rows that are groups of their own."""
        ...


class Pending(Protocol):
    """A call that a device is answering."""

    def wait(self) -> Floats:
        """Return the forecast, once it is there."""
        ...


@runtime_checkable
class Deferred(Session, Protocol):
    """A session on a device, which answers a call while the host prepares the next."""

    def start(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Pending:
        """Begin a call; arguments as those of `run`."""
        ...

    def start_univariate(self, context: Floats, future_covariates: Floats) -> Pending:
        """Begin a call; arguments as those of `run_univariate`."""
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


class HeldFiles:
    """Graphs that were read and verified, and their weights until a first graph has been made of them.

    Args:
        files: Where they are; their weights are read again for another graph.
        names: The graphs.
    """

    def __init__(self, files: Files, names: Sequence[str]) -> None:
        self.path, self._weights_again = files.path, files.keep(WEIGHTS)
        self._content = {name: files.read(name) for name in (*names, WEIGHTS)}

    def read(self, name: str) -> memoryview:
        """See `Files.read`."""
        return self._content[name] if name in self._content else self._weights_again()

    def release(self) -> None:
        """Let go of the weights, of which a runtime has made its own."""
        self._content.pop(WEIGHTS, None)


class Graphs:
    """Both graphs. Each takes time and memory from its first call on: many processes call but one.

    Args:
        files: Where the graphs and their weights are.
        open_graph: Opens one of them.
        names: The files of the general and of the univariate graph.

    Raises:
        IntegrityError: By the first call of a graph: the files are no longer those that were there before.
    """

    def __init__(
        self, files: HeldFiles, open_graph: OpenGraph, names: tuple[str, str] = (GENERAL, UNIVARIATE)
    ) -> None:
        self._files, self._open_graph, self._names = files, open_graph, names
        self._lock, self._opened = threading.Lock(), dict[str, Graph]()

    def run(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Floats:
        """See `Session.run`."""
        general = self._graph(self._names[0])
        return general(context=context, group_ids=group_ids, future_covariates=future_covariates)

    def run_univariate(self, context: Floats, future_covariates: Floats) -> Floats:
        """See `Session.run_univariate`."""
        return self._graph(self._names[1])(context=context, future_covariates=future_covariates)

    def open(self) -> None:
        """Open both graphs now."""
        for name in self._names:
            self._graph(name)

    def _graph(self, name: str) -> Graph:
        with self._lock:
            if name not in self._opened:
                try:
                    graph, weights = self._files.read(name), self._files.read(WEIGHTS)
                except IntegrityError as error:
                    raise IntegrityError(
                        f"{self._files.path} was changed after it was loaded: {error.summary}",
                        fix=f"load({str(self._files.path)!r}) again",
                    ) from error
                self._opened[name] = self._open_graph(name, bytes(graph), weights)
                self._files.release()
            return self._opened[name]
