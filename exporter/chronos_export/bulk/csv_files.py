"""CSV files, compressed or not, by nothing but Python: a header, commas, UTF-8.

Ids stay the text that they are. A cell that is empty or says that it is not available is missing.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from chronos_export.bulk.rows import Chunk, Columns, Values, refused
from chronos_export.bulk.writing import Answer
from chronos_export.errors import UsageError
from chronos_export.forecaster.frequency import Stamps
from chronos_export.runtime.session import Floats

AT_ONCE = 2**12  # rows that are read at a time: more keep the garbage collector busy
MISSING = {"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"}
STAMP = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?")
STAMPS = "2024-05-31, 2024-05-31 13:00 or 2024-05-31 13:00:00.000, without a time zone"
UNITS = ((10, "D"), (16, "m"), (19, "s"), (23, "ms"), (26, "us"), (29, "ns"))  # by the length of the text
Row = list[str]


class CsvFile:
    """A CSV file to read.

    Args:
        path: Ends in `.csv` or `.csv.gz`.

    Raises:
        UsageError: It has no header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._rows() as (rows, _):
            self.names = next(rows, [])
        if not self.names:
            raise refused(path, "it is empty", allowed="a header and rows")

    def numeric(self, names: Collection[str]) -> set[str]:
        """See `File`. A column is of numbers if every cell of it is one, or missing."""
        left = set(names)
        for _, table in self._tables(lambda share: None) if left else ():
            left = {name for name in left if _as_numbers(table[name]) is not None}
            if not left:
                break
        return left

    def order(self, name: str) -> list[Any] | None:
        """See `File`."""
        return None

    def chunks(
        self,
        columns: Columns,
        numbers: Collection[str],
        others: Collection[str],
        told: Callable[[float], object],
    ) -> Iterator[Chunk]:
        """See `File`."""
        for first, table in self._tables(told):
            ids = list(table[columns.id])
            if "" in ids:
                raise refused(self.path, f"column {columns.id!r} is empty in row {first + ids.index('')}")
            values: Values = {name: self._numbers(name, table[name], ids, first) for name in numbers}
            values |= {name: [None if c in MISSING else c for c in table[name]] for name in others}
            stamps = self._stamps(columns.timestamp, table[columns.timestamp], ids, first)
            yield Chunk(first, ids, stamps, values)

    def _numbers(self, name: str, cells: tuple[str, ...], ids: list[str], first: int) -> Floats:
        numbers = _as_numbers(cells)
        if numbers is None:
            row = next(row for row, cell in enumerate(cells) if _as_numbers((cell,)) is None)
            what = f"column {name!r} holds {cells[row]!r} in row {first + row}, of series {ids[row]}"
            raise refused(self.path, what, allowed="numbers, or nothing where one is missing")
        with np.errstate(over="ignore"):
            return numbers.astype(np.float32)

    def _stamps(self, name: str, cells: tuple[str, ...], ids: list[str], first: int) -> Stamps:
        try:
            if all(map(STAMP.fullmatch, cells)):
                longest = max(map(len, set(cells)))
                return np.array(cells, dtype=f"M8[{next(u for size, u in UNITS if longest <= size)}]")
        except ValueError:  # a 13th month
            pass
        row = next(row for row, cell in enumerate(cells) if not _is_stamp(cell))
        what = f"column {name!r} holds {cells[row]!r} in row {first + row}, of series {ids[row]}"
        raise refused(self.path, f"{what}, which is no time stamp", allowed=STAMPS)

    def _tables(self, told: Callable[[float], object]) -> Iterator[tuple[int, dict[str, tuple[str, ...]]]]:
        """The number of the first row, from 1, and the cells of each column."""
        first, width = 1, len(self.names)
        with self._rows() as (rows, share):
            next(rows)
            while part := [row for row in islice(rows, AT_ONCE) if row]:
                if set(map(len, part)) != {width}:
                    row = next(row for row, cells in enumerate(part) if len(cells) != width)
                    what = f"row {first + row} has {len(part[row])} cells and the header {width}"
                    raise refused(self.path, what, fix="look whether the file was cut short there")
                yield first, dict(zip(self.names, zip(*part, strict=True), strict=True))
                first += len(part)
                told(share())

    @contextmanager
    def _rows(self) -> Iterator[tuple[Iterator[Row], Callable[[], float]]]:
        """All rows, and what tells how much of the file has been read."""
        try:
            size = max(self.path.stat().st_size, 1)
            with self.path.open("rb") as raw:
                file = gzip.GzipFile(fileobj=raw) if self.path.suffix == ".gz" else raw
                text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
                yield csv.reader(text, strict=True), lambda: raw.tell() / size
        except (csv.Error, EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
            allowed = "UTF-8, cells between commas, the same number in every row"
            raise UsageError(f"{self.path} cannot be read as CSV: {error}", allowed=allowed) from error


class CsvOutput:
    """A CSV file to write.

    Args:
        file: Where it is written.
        compressed: Whether by gzip.
    """

    def __init__(self, file: Path, compressed: bool) -> None:
        self._text: TextIO = (gzip.open if compressed else open)(file, "wt", **_TEXT)
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._is_new = True

    def write(self, answer: Answer) -> None:
        """Write some rows, the names of the columns before the first."""
        if self._is_new:
            self._writer.writerow([*answer.index, *answer.numbers])
            self._is_new = False
        stamps = np.char.replace(np.datetime_as_string(answer.stamps), "T", " ").tolist()
        numbers = [column.astype(str).tolist() for column in answer.numbers.values()]
        self._writer.writerows(zip(answer.ids, stamps, answer.targets, *numbers, strict=True))

    def close(self) -> None:
        """End the file."""
        self._text.close()


_TEXT: dict[str, Any] = {"encoding": "utf-8", "newline": ""}


def _as_numbers(cells: Collection[str]) -> Floats | None:
    """Cells as float64, or None if one is no number."""
    if any("_" in cell for cell in cells):  # Python's digits may have them
        return None
    try:
        return np.array([np.nan if cell in MISSING else float(cell) for cell in cells])
    except ValueError:
        return None


def _is_stamp(cell: str) -> bool:
    try:
        return bool(STAMP.fullmatch(cell)) and not np.isnat(np.datetime64(cell))
    except ValueError:
        return False
