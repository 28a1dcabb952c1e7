"""What a server tells of itself: metrics, and a JSON line for each request. Never a value of a series."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from chronos_export.serving.batcher import Served

LOG = logging.getLogger("chronos_export.serving")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
PREFIX = "chronos_export_"


class Observer:
    """The metrics of a server, and its log.

    Args:
        queued: Says how many requests wait for a batch.
        under_way: Says how many requests are under way.
        registry: Where the metrics are registered.
    """

    def __init__(
        self,
        queued: Callable[[], float],
        under_way: Callable[[], float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=registry)

        self._requests = Counter(
            PREFIX + "requests", "Requests by API and status.", ["api", "status"], registry=registry
        )
        self._seconds = histogram("request_seconds", "From arrival to answer.", SECONDS, "api")
        self._rows = Counter(PREFIX + "rows", "Rows forecast.", registry=registry)
        self._failed = Counter(PREFIX + "failed", "Merged requests that failed.", registry=registry)
        self._calls = histogram("call_seconds", "Duration of a merged call.", SECONDS)
        self._merged = histogram("call_requests", "Requests merged into a call.", COUNTS)
        self._waited = histogram("queue_seconds", "Wait of a request for its call.", SECONDS)
        for name, text, value in (
            ("queued_requests", "Requests that wait for a call.", queued),
            ("requests_under_way", "Requests that have been admitted.", under_way),
        ):
            Gauge(PREFIX + name, text, registry=registry).set_function(value)

    def request(self, api: str, status: str, seconds: float) -> None:
        """Count a request and log it.

        Args:
            api: Through which it came.
            status: Of HTTP, or gRPC's name of it.
            seconds: How long it took.
        """
        self._requests.labels(api, status).inc()
        self._seconds.labels(api).observe(seconds)
        say("request", api=api, status=status, seconds=round(seconds, 6))

    def batch(self, served: Served) -> None:
        """Count a merged call."""
        self._rows.inc(served.rows)
        self._failed.inc(served.failed)
        self._calls.observe(served.seconds)
        self._merged.observe(served.requests)
        for seconds in served.waited:
            self._waited.observe(seconds)


def say(event: str, **facts: object) -> None:
    """Log an event as one line of JSON."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    LOG.info(json.dumps({"time": now, "event": event, **facts}))


def say_fault(error: BaseException) -> None:
    """Log a fault of ours: where it happened, and not its message, which may hold values."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.name}:{frame.lineno} {frame.filename.rpartition('/')[2]}" for frame in frames[-8:]]
    say("fault", error=type(error).__name__, where=where)
