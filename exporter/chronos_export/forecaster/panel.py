"""Long data frames of any library: rows by series and time, columns as numbers and categories.

Derived from `normalize_df` and `from_data_frame` of chronos-forecasting 2.3.2.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np

from chronos_export.errors import UsageError
from chronos_export.forecaster.categories import Categories, categorize, codes_among, is_missing
from chronos_export.forecaster.frequency import Stamps
from chronos_export.forecaster.task import InputTypeError, parsed
from chronos_export.runtime.session import Floats, Ints

Frame = nw.DataFrame[Any]
Column = nw.Series[Any]


@dataclass(frozen=True)
class Panel:
    """The series of a long frame.

    Attributes:
        frame: The rows of the first series, then those of the second, and so on.
        names: What each series is called.
        lengths: int64 [series], rows of each.
        stamps: [rows], ascending in each series.
    """

    frame: Frame
    names: list[Hashable]
    lengths: Ints
    stamps: Stamps


def as_frame(frame: Any, name: str) -> Frame:
    """Return a data frame of any library.

    Raises:
        InputTypeError: It is none, or would have to be computed first.
        UsageError: It has two columns of one name.
    """
    try:
        found: Frame = nw.from_native(frame, eager_only=True)
        _ = found.schema  # which looks at the columns
    except TypeError as error:
        raise InputTypeError(
            f"{name} is a {type(frame).__name__}",
            allowed="a data frame of pandas, Polars, PyArrow or another library that narwhals knows",
            fix=f"{name}.collect(), if it is a lazy one",
        ) from error
    except ValueError as error:
        raise UsageError(f"{name} cannot be read: {' '.join(str(error).split())}") from error
    return found


def as_panel(
    frame: Frame, id_column: str, timestamp_column: str, names: Sequence[Hashable] | None, in_order: bool
) -> Panel:
    """Return the series of a frame.

    Args:
        frame: A row for each series and time stamp.
        id_column: Says which series a row is of.
        timestamp_column: Holds time stamps, or strings of them.
        names: All series, in order; None for those there are, in the order of their first rows.
        in_order: Whether the rows are in order; else they are put into it.

    Raises:
        UsageError: The name of a series or a time stamp is missing, or cannot be one.
    """
    ids = frame[id_column].to_list()
    found = list(dict.fromkeys(ids)) if names is None else list(names)
    if any(map(is_missing, found)):
        raise UsageError(f"column {id_column!r} names no series in row {_first(map(is_missing, ids))}")
    codes = codes_among(ids, found)
    stamps = stamps_of(frame[timestamp_column])
    if np.isnat(stamps).any():
        row = _first(np.isnat(stamps))
        raise UsageError(f"column {timestamp_column!r} has no time stamp in row {row}, of series {ids[row]}")
    if not in_order and not _is_sorted(codes, stamps):
        order = np.lexsort([stamps, codes])
        frame, codes, stamps = frame[order], codes[order], stamps[order]
    return Panel(frame, found, np.bincount(codes, minlength=len(found)), stamps)


def stamps_of(column: Column) -> Stamps:
    """Return the time stamps of a column. Strings are read; integers are nanoseconds, as pandas has it.

    Raises:
        UsageError: It holds none, or they have a time zone.
    """
    dtype, name = column.dtype, column.name
    if isinstance(dtype, nw.Datetime) and dtype.time_zone is not None:
        raise UsageError(
            f"column {name!r} has the time zone {dtype.time_zone}",
            allowed="time stamps without one",
            fix=f"df[{name!r}].dt.tz_localize(None) in pandas, .dt.replace_time_zone(None) in Polars",
        )
    if dtype.is_integer():
        return np.asarray(column.to_numpy(), dtype=np.int64).view("M8[ns]")
    try:
        if dtype == nw.String:
            column = column.str.to_datetime()
        elif dtype == nw.Date:
            column = column.cast(nw.Datetime("us"))
        elif dtype != nw.Datetime:
            return np.array(column.to_list(), dtype="M8[us]")  # perhaps Python's own dates
    except Exception as error:  # each library raises others
        raise UsageError(f"column {name!r} holds what is no time stamp: {error}") from error
    return np.asarray(column.to_numpy())


def numbers_of(column: Column) -> Floats:
    """Return a column of numbers or booleans as float32."""
    return parsed((column.cast(nw.Float64) if column.dtype == nw.Boolean else column).to_numpy())


def categories_of(column: Column) -> Categories:
    """Return a column of anything else. Its categories have the order that it gives them, if it does.

    Polars' `Categorical` does not: it has the order in which the process came across their names.
    """
    kinds = (nw.Enum,) if column.implementation.is_polars() else (nw.Enum, nw.Categorical)
    order = column.cat.get_categories().to_list() if column.dtype in kinds else None
    return categorize(column.to_list(), order)


def _first(marks: Iterable[Any]) -> int:
    """The position of the first that is true."""
    return next(position for position, mark in enumerate(marks) if mark)


def _is_sorted(codes: Ints, stamps: Stamps) -> bool:
    step, later = np.diff(codes), np.diff(stamps.view(np.int64)) >= 0
    return bool(((step > 0) | ((step == 0) & later)).all())
