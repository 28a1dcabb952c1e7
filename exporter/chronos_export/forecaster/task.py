"""What is forecast together: targets and covariates, one series a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError
from chronos_export.runtime.session import Floats

NUMBERS = "fiub"  # kinds of numpy types that are values of a series


class InputTypeError(UsageError, TypeError):
    """An input is of a type that holds no series."""


@dataclass(frozen=True)
class Task:
    """One element of the inputs.

    Attributes:
        context: float32 [rows, history], NaN = missing; targets first, covariates known ahead last.
        future: float32 [rows, prediction_length], NaN = unknown.
        targets: How many of the first rows are forecast.
    """

    context: Floats
    future: Floats
    targets: int


def without_covariates(values: NDArray[Any], prediction_length: int) -> Task:
    """Return the task of numbers [targets, history], all of which are forecast."""
    context = as_floats(values)
    unknown = np.broadcast_to(np.float32(np.nan), (len(context), prediction_length))  # takes no memory
    return Task(context, unknown, len(context))


def as_array(values: Any) -> NDArray[Any]:
    """Return an array, or a tensor of PyTorch wherever and of whatever type it is, as numpy sees it."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    return np.asarray(values)


def as_floats(values: NDArray[Any]) -> Floats:
    """Return numbers as float32; what that cannot hold becomes infinite, as it does in PyTorch.

    Raises:
        InputTypeError: They are no numbers.
    """
    if values.dtype.kind not in NUMBERS:
        raise InputTypeError(
            f"a series of type {values.dtype} holds no numbers",
            allowed="floating point, integers, booleans; a categorical covariate goes into a dictionary",
        )
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def parsed(values: NDArray[Any]) -> Floats:
    """Return numbers, or what can be read as some, as float32.

    Raises:
        InputTypeError: They cannot.
    """
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"a series holds what is no number: {error}", allowed="numbers") from error
