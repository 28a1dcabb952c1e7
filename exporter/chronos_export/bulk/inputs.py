"""The files that are read: which columns are covariates, and of which kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chronos_export.bulk.files import open_file
from chronos_export.bulk.job import Job
from chronos_export.bulk.rows import Columns, File, Series, refused, require_columns, series_of

OPTIONS = "name the columns: --id-column, --timestamp-column, --target, --group-column"
Told = Callable[[float], object]


@dataclass(frozen=True)
class Inputs:
    """Files and their columns.

    Attributes:
        data: What is forecast.
        future: What is known ahead, or None.
        columns: What the columns of both are.
        covariates: In the order of their rows in the model: those that are known ahead last.
        numeric: Which of them are numbers; others are categories.
        known: Which of them are known ahead.
    """

    data: File
    future: File | None
    columns: Columns
    covariates: list[str]
    numeric: set[str]
    known: set[str]

    def __str__(self) -> str:
        shown = [f"{name} (known ahead)" if name in self.known else name for name in self.covariates]
        together = f", together by {self.columns.group}" if self.columns.group else ""
        return (
            f"series by {self.columns.id}, time by {self.columns.timestamp}; forecast"
            f" {', '.join(self.columns.targets)}{together}; covariates {', '.join(shown) or 'none'}"
        )

    @property
    def numbers(self) -> list[str]:
        """Return the columns of `data` that are numbers."""
        return [*self.columns.targets, *(name for name in self.covariates if name in self.numeric)]

    @property
    def categories(self) -> list[str]:
        """Return the covariates that are not."""
        return [name for name in self.covariates if name not in self.numeric]

    def past(self, told: Told = lambda share: None) -> Iterator[Series]:
        """Yield the series of `data`."""
        others = [*self.categories, *([self.columns.group] if self.columns.group else [])]
        return series_of(self.data.chunks(self.columns, self.numbers, others, told))

    def ahead(self) -> Iterator[Series]:
        """Yield the series of `future`."""
        assert self.future
        numbers, others = self.known & self.numeric, self.known - self.numeric
        return series_of(self.future.chunks(self.columns, numbers, others, lambda share: None))


def open_inputs(job: Job) -> Inputs:
    """Open the files of a job.

    Raises:
        UsageError: One is not there, cannot be read, or lacks a column.
        MissingPackageError: What reads it is not installed.
    """
    columns, data = job.columns, open_file(job.data)
    require_columns(data, [*columns.index, *columns.targets], OPTIONS)
    names = [name for name in data.names if name not in {*columns.index, *columns.targets}]
    future, known = None, set[str]()
    if job.future is not None:
        future = open_file(job.future)
        require_columns(future, (columns.id, columns.timestamp), OPTIONS)
        known = set(future.names) - set(columns.index)
        if wrong := [name for name in future.names if name in known and name not in names]:
            is_target = wrong[0] in columns.targets
            why = "what is forecast" if is_target else f"not in {data.path}"
            raise refused(future.path, f"column {wrong[0]!r} is {why}", allowed=f"covariates of {data.path}")
    return Inputs(data, future, columns, sorted(names, key=known.__contains__), data.numeric(names), known)
