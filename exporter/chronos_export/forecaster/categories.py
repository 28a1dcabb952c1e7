"""Values that are no numbers, as codes.

Derived from how pandas 3.1 makes categories and looks values up in them, which upstream relies on.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np

from chronos_export.runtime.session import Ints

MISSING, UNSEEN = -1, -2


@dataclass(frozen=True)
class Categories:
    """A categorical covariate.

    Attributes:
        codes: int64 [values], positions in `values`, or `MISSING`.
        values: The categories.
    """

    codes: Ints
    values: Sequence[Hashable]

    def codes_of(self, values: Sequence[Any]) -> Ints:
        """Return the codes of other values: positions in `self.values`, `MISSING` or `UNSEEN`."""
        if {_kind(self.values), _kind(values)} == {bool, Number}:
            return codes_among(values, ())  # True is not 1 here
        return codes_among(values, self.values)


def categorize(values: Sequence[Any], order: Sequence[Hashable] | None = None) -> Categories:
    """Return values as categories.

    Args:
        values: Anything hashable; None, NaN, NaT and the like are missing.
        order: The categories, if they are known; else those found, numbers before strings and each kind
            sorted; or as they appear, where they cannot be compared.
    """
    if order is None:
        present = [value for value in dict.fromkeys(values) if not is_missing(value)]
        try:
            order = sorted(present, key=lambda value: (isinstance(value, str), value))
        except TypeError:
            order = present
    return Categories(codes_among(values, order), order)


def codes_among(values: Sequence[Any], categories: Sequence[Hashable]) -> Ints:
    """Return the positions of values among categories, `MISSING` or `UNSEEN`."""
    known = {value: code for code, value in enumerate(categories)}
    codes = {v: MISSING if is_missing(v) else known.get(v, UNSEEN) for v in dict.fromkeys(values)}
    return np.fromiter((codes[value] for value in values), np.int64, len(values))


def is_missing(value: Any) -> bool:
    """Whether a value is None, or differs from itself like NaN, or cannot tell, like pandas' NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True


def _kind(values: Sequence[Any]) -> type:
    """`bool` or `Number` if all values are, but for those that are missing; else `object`."""
    types = {type(value) for value in values if not is_missing(value)}
    kinds = {bool if kind is bool else Number if issubclass(kind, Number) else object for kind in types}
    return kinds.pop() if len(kinds) == 1 else object
