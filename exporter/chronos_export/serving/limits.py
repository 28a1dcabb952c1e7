"""What a server takes on, and how it refuses the rest."""

from __future__ import annotations

from dataclasses import dataclass

from chronos_export.errors import ChronosExportError, UsageError


class TooLargeError(UsageError):
    """One request is more than the server takes; HTTP 413."""


class SlowError(UsageError):
    """A request did not arrive in time; HTTP 408."""


class BusyError(ChronosExportError):
    """The queue is full, or the server is about to stop; HTTP 429 or 503."""

    exit_code = 3


class DeadlineError(ChronosExportError):
    """A request was not answered in time; HTTP 504."""

    exit_code = 3


@dataclass(frozen=True)
class ServingLimits:
    """The bounds of a server's memory and of a client's wait.

    Attributes:
        rows: The most rows of one request: targets and covariates.
        steps: The most time steps of one request, rows x (context + horizon).
        queued_steps: The most time steps that wait, over all requests.
        merged_steps: The most time steps of requests merged into one batch, padding included.
        seconds: How long a request may take from its arrival to its answer.
        requests: How many requests may be under way at a time.
        body: The most bytes of one request.
        bodies: The most bytes of all requests under way.
    """

    rows: int = 1024
    steps: int = 2_000_000
    queued_steps: int = 16_000_000
    merged_steps: int = 2_000_000
    seconds: float = 60.0
    requests: int = 128
    body: int = 16 * 2**20
    bodies: int = 64 * 2**20

    def check(self, rows: int, steps: int) -> None:
        """Refuse a request that is too large by itself.

        Raises:
            TooLargeError: It is; says its size and the limit.
        """
        if rows > self.rows:
            raise TooLargeError(f"the request has {rows} rows", allowed=f"at most {self.rows} rows")
        if steps > self.steps:
            raise TooLargeError(
                f"the request has {steps} time steps in {rows} rows, horizon included",
                allowed=f"at most {self.steps} time steps",
                fix="shorten the context, or send the series in several requests",
            )
