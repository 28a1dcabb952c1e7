"""Parquet files: row groups in, row groups out. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chronos_export.bulk.rows import Chunk, Columns, Values, refused
from chronos_export.bulk.writing import Answer
from chronos_export.errors import UsageError
from chronos_export.forecaster.categories import is_missing
from chronos_export.forecaster.panel import numbers_of, stamps_of

AT_ONCE, ROW_GROUP = 2**16, 2**17  # rows that are read and written at a time


class ParquetFile:
    """A Parquet file to read.

    Args:
        path: Where it is.

    Raises:
        UsageError: It is none, or is cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._opened() as file:
            self.schema, self._rows = file.schema_arrow, file.metadata.num_rows
        self.names = list(self.schema.names)

    def numeric(self, names: Collection[str]) -> set[str]:
        """See `File`."""
        schema = nw.from_native(self.schema.empty_table(), eager_only=True).schema
        for name in names:
            if schema[name].is_nested():
                raise refused(
                    self.path, f"column {name!r} holds {schema[name]}", allowed="numbers, or one value a row"
                )
        return {name for name in names if schema[name].is_numeric()}

    def order(self, name: str) -> list[Any] | None:
        """See `File`."""
        if not pa.types.is_dictionary(self.schema.field(name).type):
            return None
        with self._opened() as file:
            parts = [batch.column(0).dictionary for batch in file.iter_batches(AT_ONCE, columns=[name])]
        return list(dict.fromkeys(value for part in parts for value in part.to_pylist()))

    def chunks(
        self,
        columns: Columns,
        numbers: Collection[str],
        others: Collection[str],
        told: Callable[[float], object],
    ) -> Iterator[Chunk]:
        """See `File`."""
        first, wanted = 1, [columns.id, columns.timestamp, *numbers, *others]
        with self._opened() as file:
            for batch in file.iter_batches(AT_ONCE, columns=wanted):
                frame = nw.from_native(pa.Table.from_batches([batch]), eager_only=True)
                ids = frame[columns.id].to_list()
                stamps = self._said(stamps_of, frame[columns.timestamp])
                if frame[columns.timestamp].dtype == nw.Date:
                    stamps = stamps.astype("M8[D]")
                for name, missing in (
                    (columns.id, map(is_missing, ids)),
                    (columns.timestamp, np.isnat(stamps)),
                ):
                    if found := [row for row, is_absent in enumerate(missing) if is_absent]:
                        whose = "" if name == columns.id else f", of series {ids[found[0]]}"
                        raise refused(self.path, f"column {name!r} is null in row {first + found[0]}{whose}")
                values: Values = {name: self._said(numbers_of, frame[name]) for name in numbers}
                values |= {name: frame[name].to_list() for name in others}
                yield Chunk(first, ids, stamps, values)
                first += len(ids)
                told(first / self._rows)

    def _said(self, read: Callable[[nw.Series[Any]], Any], column: nw.Series[Any]) -> Any:
        """A column read by `read`, whose error does not know the file."""
        try:
            return read(column)
        except UsageError as error:
            raise UsageError(f"{self.path}: {error.summary}", allowed=error.allowed, fix=error.fix) from error

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with pq.ParquetFile(self.path) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            why = " ".join(str(error).split())
            fix = "look whether the file was cut short"
            raise UsageError(f"{self.path} cannot be read as Parquet: {why}", fix=fix) from error


class ParquetOutput:
    """A Parquet file to write.

    Args:
        file: Where it is written.
        id_type: Of the ids; None for that of what is written first.
    """

    def __init__(self, file: Path, id_type: pa.DataType | None) -> None:
        self._file, self._id_type = file, id_type
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def write(self, answer: Answer) -> None:
        """Write some rows, once there are enough for a row group."""
        stamps = answer.stamps
        if stamps.dtype == "M8[m]" or stamps.dtype == "M8[h]":
            stamps = stamps.astype("M8[s]")
        columns = [
            pa.array(answer.ids, self._id_type),
            pa.array(stamps),
            pa.array(answer.targets, pa.string()),
        ]
        columns += [pa.array(column) for column in answer.numbers.values()]
        self._waiting.append(pa.table(columns, names=[*answer.index, *answer.numbers]))
        if sum(map(len, self._waiting)) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """End the file."""
        self._flush()
        if self._writer:
            self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._waiting = []
            self._writer = self._writer or pq.ParquetWriter(self._file, table.schema)
            self._writer.write_table(table)
