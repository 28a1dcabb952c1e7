"""Which calls get a CUDA graph: those of shapes that come back.

A shape is run without a graph when it is first seen, captured when it comes again and replayed from then on.
A capture costs as much as many calls save, so where more shapes take turns than there is room for, the graphs
that are there stay until one has not been used for a long time.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Graph = TypeVar("Graph")

REMEMBERED = 64  # shapes that were seen and have no graph
PATIENCE = 256  # calls that a graph is kept without being used when another shape wants its place


class GraphCache(Generic[Graph]):
    """The graphs of one session. For one thread.

    Args:
        limit: The most graphs held at a time; none is captured if 0.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._graphs: OrderedDict[Hashable, Graph] = OrderedDict()  # the one used longest ago first
        self._used: dict[Hashable, int] = {}
        self._seen: deque[Hashable] = deque(maxlen=REMEMBERED)
        self._calls = 0

    def find(self, shape: Hashable, capture: Callable[[], Graph | None]) -> Graph | None:
        """The graph to replay for a call of this shape, or None if the call is to be run without.

        Args:
            shape: All that a graph is bound to.
            capture: Called if a graph is due. If it gives None, no capture is tried again.
        """
        self._calls += 1
        if shape not in self._graphs and not self._captured(shape, capture):
            return None
        self._graphs.move_to_end(shape)
        self._used[shape] = self._calls
        return self._graphs[shape]

    def _captured(self, shape: Hashable, capture: Callable[[], Graph | None]) -> bool:
        if self._limit == 0:
            return False
        if shape not in self._seen:
            self._seen.append(shape)
            return False
        if not self._has_room():
            return False
        graph = capture()
        if graph is None:
            self._limit = 0
            return False
        self._graphs[shape] = graph
        return True

    def _has_room(self) -> bool:
        if len(self._graphs) < self._limit:
            return True
        oldest = next(iter(self._graphs))
        if self._calls - self._used[oldest] <= PATIENCE:
            return False
        del self._graphs[oldest], self._used[oldest]
        return True
