"""Rows of a file in long format, and the series that they make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chronos_export.errors import UsageError
from chronos_export.forecaster.frequency import Stamps
from chronos_export.runtime.session import Floats, Ints

Values = dict[str, Floats | list[Any]]  # of a column: numbers, or anything that is a category
LISTED = 20  # columns that a message names


@dataclass(frozen=True)
class Columns:
    """What the columns of a file are; those that are none of these are covariates.

    Attributes:
        id: Says which series a row is of.
        timestamp: Says when.
        targets: What is forecast.
        group: Series with one value in it are forecast together; None if there is no such column.
    """

    id: str = "item_id"
    timestamp: str = "timestamp"
    targets: tuple[str, ...] = ("target",)
    group: str | None = None

    @property
    def index(self) -> tuple[str, ...]:
        """Return those that are neither forecast nor covariates."""
        return (self.id, self.timestamp) if self.group is None else (self.id, self.timestamp, self.group)


@dataclass(frozen=True)
class Chunk:
    """Rows that follow each other.

    Attributes:
        first: The number of the first row, from 1.
        ids: Which series each row is of.
        stamps: [rows].
        values: Column -> float32 [rows], or a list of that length.
    """

    first: int
    ids: list[Any]
    stamps: Stamps
    values: Values


@dataclass(frozen=True)
class Series:
    """All rows of a series.

    Attributes:
        name: Its id.
        first: The number of its first row, from 1.
        stamps: [rows].
        values: Column -> float32 [rows], or a list of that length.
    """

    name: Any
    first: int
    stamps: Stamps
    values: Values


@dataclass(frozen=True)
class Block:
    """Whole series that follow each other.

    Attributes:
        names: Of the series.
        first: The number of the first row, from 1.
        lengths: int64 [series], rows of each.
        stamps: [rows].
        values: Column -> float32 [rows], or a list of that length.
    """

    names: list[Any]
    first: int
    lengths: Ints
    stamps: Stamps
    values: Values

    def place(self, row: int) -> str:
        """Say where a row of this block is, by its position in it."""
        series = int(np.searchsorted(np.cumsum(self.lengths), row, side="right"))
        return f"row {self.first + row}, of series {self.names[series]}"


class File(Protocol):
    """A file that holds series, one row for each time stamp.

    Attributes:
        path: Where it is.
        names: Its columns.
    """

    path: Path
    names: list[str]

    def numeric(self, names: Collection[str]) -> set[str]:
        """Return those of some columns that hold numbers."""
        ...

    def order(self, name: str) -> list[Any] | None:
        """Return the categories of a column in their order, if the file gives them one."""
        ...

    def chunks(
        self,
        columns: Columns,
        numbers: Collection[str],
        others: Collection[str],
        told: Callable[[float], object],
    ) -> Iterator[Chunk]:
        """Yield the rows.

        Args:
            columns: Which say what a row is of.
            numbers: Columns to read as numbers.
            others: Columns to read as categories, or as names of groups.
            told: Called with the share of the file that has been read.

        Raises:
            UsageError: Something there cannot be read as what it has to be.
        """
        ...


def refused(path: Path, what: str, *, allowed: str = "", fix: str = "") -> UsageError:
    """Return the refusal of a file for something in it."""
    return UsageError(f"{path}: {what}", allowed=allowed, fix=fix)


def require_columns(file: File, wanted: Iterable[str], options: str) -> None:
    """Refuse a file that lacks columns, or has two of one name.

    Raises:
        UsageError: It does.
    """
    if doubled := sorted({name for name in file.names if file.names.count(name) > 1}):
        raise refused(
            file.path, f"there are two columns {doubled[0]!r}", allowed="columns of different names"
        )
    if missing := [name for name in dict.fromkeys(wanted) if name not in file.names]:
        shown = ", ".join(file.names[:LISTED]) + (", ..." if len(file.names) > LISTED else "")
        raise refused(file.path, f"there is no column {missing[0]!r}", allowed=f"one of {shown}", fix=options)


def series_of(chunks: Iterable[Chunk]) -> Iterator[Series]:
    """Yield the series whose rows these are, each put together of neighbouring rows of one id."""
    parts: list[Series] = []
    for chunk in chunks:
        for part in _runs(chunk):
            if parts and part.name != parts[0].name:
                yield _joined(parts)
                parts = []
            parts.append(part)
    if parts:
        yield _joined(parts)


def blocks_of(series: Iterable[Series], count: int, group: str | None = None) -> Iterator[Block]:
    """Yield series together.

    Args:
        series: In order.
        count: How many.
        group: Instead, all neighbours that have the same value in this column.
    """
    members: list[Series] = []
    for one in series:
        if members and (
            len(members) == count if group is None else one.values[group][0] != members[0].values[group][0]
        ):
            yield block_of(members)
            members = []
        members.append(one)
    if members:
        yield block_of(members)


def block_of(members: list[Series]) -> Block:
    """Return series as a block."""
    whole = _joined(members)
    lengths = np.array([len(one.stamps) for one in members])
    return Block([one.name for one in members], whole.first, lengths, whole.stamps, whole.values)


def _runs(chunk: Chunk) -> Iterator[Series]:
    """The parts of a chunk that are of one series each."""
    ids = np.empty(len(chunk.ids), dtype=object)
    ids[:] = chunk.ids
    begins = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist()]
    for begin, end in zip(begins, [*begins[1:], len(ids)], strict=True):
        values = {name: column[begin:end] for name, column in chunk.values.items()}
        yield Series(ids[begin], chunk.first + begin, chunk.stamps[begin:end], values)


def _joined(parts: list[Series]) -> Series:
    if len(parts) == 1:
        return parts[0]
    values: Values = {
        name: np.concatenate([part.values[name] for part in parts])
        if isinstance(column, np.ndarray)
        else [value for part in parts for value in part.values[name]]
        for name, column in parts[0].values.items()
    }
    stamps = np.concatenate([part.stamps for part in parts])
    return Series(parts[0].name, parts[0].first, stamps, values)
