"""Files by their names: Parquet, CSV and compressed CSV."""

from __future__ import annotations

from pathlib import Path

from chronos_export.artifact.naming import located
from chronos_export.bulk.csv_files import CsvFile, CsvOutput
from chronos_export.bulk.rows import File
from chronos_export.bulk.writing import Output
from chronos_export.errors import UsageError
from chronos_export.machine.packages import extra, require

PARQUET, CSV, COMPRESSED = (".parquet", ".pq"), ".csv", ".csv.gz"
ALLOWED = f"a name that ends in {PARQUET[0]}, {CSV} or {COMPRESSED}"


def check_name(path: Path) -> None:
    """Refuse a file of another format than ours.

    Raises:
        UsageError: Its name says that it is.
        MissingPackageError: It is a Parquet file, and what reads those is not installed.
    """
    if path.name.endswith(PARQUET):
        require("a Parquet file", extra("files"))
    elif not path.name.endswith((CSV, COMPRESSED)):
        raise UsageError(f"{path} is neither Parquet nor CSV", allowed=ALLOWED)


def open_file(path: Path) -> File:
    """Open a file to read.

    Raises:
        UsageError: It is not there, or is not what its name says.
        MissingPackageError: See `check_name`.
    """
    check_name(path)
    if not located(path).is_file():
        raise UsageError(f"{path} is not there, or is no file", allowed=ALLOWED)
    if path.name.endswith(PARQUET):
        from chronos_export.bulk.parquet_files import ParquetFile

        return ParquetFile(path)
    return CsvFile(path)


def open_output(path: Path, staging: Path, data: File, id_column: str) -> Output:
    """Open a file to write.

    Args:
        path: Says by its name what it is.
        staging: Where it is written.
        data: What is forecast; its ids keep their type where that can be.
        id_column: Of `data`.
    """
    if not path.name.endswith(PARQUET):
        return CsvOutput(staging, compressed=path.name.endswith(COMPRESSED))
    from chronos_export.bulk.parquet_files import ParquetFile, ParquetOutput

    known = data.schema.field(id_column).type if isinstance(data, ParquetFile) else None
    return ParquetOutput(staging, known)
