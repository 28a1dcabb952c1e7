"""How much is under way, so that one request too many is refused before it is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from chronos_export.serving.limits import BusyError, ServingLimits, TooLargeError


class Admission:
    """Counts the requests under way and the bytes of their bodies.

    Args:
        limits: How many may be.
    """

    def __init__(self, limits: ServingLimits) -> None:
        self._limits, self._lock = limits, threading.Lock()
        self._requests = self._bytes = 0

    @property
    def requests(self) -> int:
        """How many requests are under way."""
        return self._requests

    @contextmanager
    def request(self, size: int | None) -> Iterator[None]:
        """Admit a request for as long as the block takes.

        Args:
            size: Bytes of its body; None if nobody knows, which counts as the most.

        Raises:
            TooLargeError: It is more than one request may have.
            BusyError: Too much is under way.
        """
        limits, taken = self._limits, self._limits.body if size is None else size
        if taken > limits.body:
            raise TooLargeError(
                f"the request has {taken} bytes",
                allowed=f"at most {limits.body} bytes",
                fix="send the series in several requests",
            )
        with self._lock:
            if self._requests >= limits.requests or self._bytes + taken > limits.bodies:
                raise BusyError(
                    f"{self._requests} requests with {self._bytes} bytes are under way",
                    allowed=f"at most {limits.requests} requests and {limits.bodies} bytes",
                    fix="ask again later",
                )
            self._requests, self._bytes = self._requests + 1, self._bytes + taken
        try:
            yield
        finally:
            with self._lock:
                self._requests, self._bytes = self._requests - 1, self._bytes - taken
