"""What a client sent as numbers, checked: finite or missing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError
from chronos_export.runtime.session import Floats


def numbers(values: Any, name: str) -> Floats:
    """Return nested lists of numbers as an array.

    Args:
        values: Of JSON; null and NaN are missing.
        name: What they are, for the message.

    Returns:
        float32 of their shape, NaN = missing.

    Raises:
        UsageError: They are no numbers, have no shape, or are infinite in float32.
    """
    try:
        found = checked(values, "fiu").astype(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        allowed = "numbers, or null where one is missing"
        raise UsageError(f"{name} is no array of numbers", allowed=allowed) from error
    return finite(found, name)


def checked(values: Any, kinds: str) -> NDArray[Any]:
    """Return nested lists of JSON as an array; null becomes NaN where floating point is allowed.

    Args:
        values: Of JSON.
        kinds: Kinds of numpy types that are allowed.

    Raises:
        ValueError: They are of another type, or have no shape.
        OverflowError: One is too large.
    """
    found = np.asarray(values)
    if found.dtype.kind == "O" and "f" in kinds and all(_is_number(value) for value in found.flat):
        found = found.astype(np.float64)
    if found.dtype.kind not in kinds:
        raise ValueError(f"a value of another type than {kinds}")
    return found


def finite(values: Any, name: str) -> Floats:
    """Return numbers as float32.

    Raises:
        UsageError: One is infinite there.
    """
    with np.errstate(over="ignore"):
        found = np.asarray(values, dtype=np.float32)
    if np.isinf(found).any():
        raise UsageError(
            f"{name} holds {np.isinf(found).sum()} values that are infinite in float32",
            allowed="finite numbers, or NaN where one is missing",
        )
    return found


def whole(value: Any, name: str, least: int, most: int) -> int:
    """Return a number of JSON that counts something.

    Raises:
        UsageError: It is none, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(f"{name} is {str(value)[:40]}", allowed=f"a whole number from {least} to {most}")
    return value


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
