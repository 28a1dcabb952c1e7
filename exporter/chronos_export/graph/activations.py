"""The activations of a feed forward that a graph can be written with."""

from __future__ import annotations

from chronos_export.errors import UsageError

ACTIVATIONS = ("relu", "gelu", "silu", "swish")


def require_activation(name: str) -> None:
    """Refuse a model that no graph can be written of.

    Raises:
        UsageError: Its activation is another.
    """
    if name not in ACTIVATIONS:
        raise UsageError(
            f"the model's feed forward has the activation {name!r}, which cannot be exported",
            allowed=", ".join(ACTIVATIONS),
            fix="fine-tune amazon/chronos-2, whose activation is relu",
        )
