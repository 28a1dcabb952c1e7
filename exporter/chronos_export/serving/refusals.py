"""What went wrong with a request, as HTTP and gRPC say it."""

from __future__ import annotations

from dataclasses import dataclass

from chronos_export.errors import UsageError
from chronos_export.serving.limits import BusyError, DeadlineError, SlowError, TooLargeError


@dataclass(frozen=True)
class Refusal:
    """The status of a request that was not answered.

    Attributes:
        http: Status of HTTP.
        grpc: Name of gRPC's status.
    """

    http: int
    grpc: str


_REFUSALS: tuple[tuple[type[Exception], Refusal], ...] = (
    (TooLargeError, Refusal(413, "INVALID_ARGUMENT")),
    (SlowError, Refusal(408, "DEADLINE_EXCEEDED")),
    (UsageError, Refusal(400, "INVALID_ARGUMENT")),
    (BusyError, Refusal(429, "RESOURCE_EXHAUSTED")),
    (DeadlineError, Refusal(504, "DEADLINE_EXCEEDED")),
)
INTERNAL = Refusal(500, "INTERNAL")


def refusal_of(error: BaseException) -> Refusal:
    """Return the status that an error has."""
    return next((refusal for kind, refusal in _REFUSALS if isinstance(error, kind)), INTERNAL)


def message_of(error: BaseException) -> str:
    """Return what a client is told: what was given, what is allowed; of our own faults no more than that."""
    return "internal error" if refusal_of(error) is INTERNAL else str(error)
