"""The first reading of a file: what can be wrong with it, and what one series cannot know of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chronos_export.bulk.rows import Block, Columns, Series, blocks_of, refused
from chronos_export.errors import UsageError
from chronos_export.forecaster.categories import categorize, is_missing
from chronos_export.forecaster.frequency import Frequency, Stamps
from chronos_export.forecaster.inference import ENOUGH, different, infer
from chronos_export.runtime.session import Ints

TOGETHER = 256  # series that are looked at together
Listed = dict[Any, None]  # a set that keeps the order


@dataclass
class Survey:
    """What was found in a file.

    Attributes:
        path: The file.
        columns: What its columns are.
        frequency: Of the time stamps; None until it is known.
        names: Of the series, in the order of the file.
        rows: How many there are.
        lasts: The last time stamp of each series, in arrays.
        categories: Column -> what it holds, for those that were asked for.
    """

    path: Path
    columns: Columns
    frequency: Frequency | None = None
    names: Listed = field(default_factory=dict)
    rows: int = 0
    lasts: list[Stamps] = field(default_factory=list)
    categories: dict[str, Listed] = field(default_factory=dict)
    _groups: Listed = field(default_factory=dict)

    def take(self, series: Iterable[Series], numbers: Iterable[str], check_regular: bool) -> None:
        """Look at all series.

        Args:
            series: In the order of the file.
            numbers: Columns that must be finite.
            check_regular: Whether the frequency is to be found; else it was given.

        Raises:
            UsageError: They cannot be forecast.
        """
        for block in blocks_of(series, TOGETHER):
            ends = np.cumsum(block.lengths)
            self._take_names(block, ends - block.lengths)
            _check_ascending(self.path, self.columns.timestamp, block, ends)
            if check_regular:
                self._take_frequency(block, ends - block.lengths)
            self._check_observed(block, ends - block.lengths)
            check_finite(self.path, block, numbers)
            for name, found in self.categories.items():
                found.update(dict.fromkeys(value for value in block.values[name] if not is_missing(value)))
            self.rows += len(block.stamps)
            self.lasts.append(block.stamps[ends - 1])
        if not self.names:
            raise refused(self.path, "it has no rows", allowed="at least one series")
        if self.frequency is None:
            raise refused(
                self.path, f"no series has at least {ENOUGH} rows", fix="give their distance, as --freq D"
            )

    def orders(self, known: Callable[[str], list[Any] | None]) -> dict[str, list[Any]]:
        """Return column -> its categories in order.

        Args:
            known: What order the file gives those of a column.
        """
        return {
            name: known(name) or list(categorize(list(found)).values)
            for name, found in self.categories.items()
        }

    def stamp_type(self, steps: int) -> np.dtype[np.datetime64]:
        """Return the one type of all time stamps that are `steps` ahead."""
        assert self.frequency
        last = self.lasts[0][:1].astype(np.result_type(*self.lasts))
        return self.frequency.after(last, steps).dtype

    def _take_names(self, block: Block, begins: Ints) -> None:
        for name, begin in zip(block.names, begins.tolist(), strict=True):
            if name in self.names:
                what = f"series {name} begins again in {block.place(begin)}"
                raise refused(
                    self.path, what, fix=f"sort the file by {self.columns.id} and {self.columns.timestamp}"
                )
            self.names[name] = None
        if self.columns.group is not None:
            self._take_groups(block, self.columns.group, begins)

    def _take_groups(self, block: Block, column: str, begins: Ints) -> None:
        values, first = block.values[column], set(begins.tolist())
        for row, group in enumerate(values):
            if is_missing(group):
                raise refused(self.path, f"column {column!r} names no group in {block.place(row)}")
            if row not in first:
                if group != values[row - 1]:
                    what = f"column {column!r} is {group} after {values[row - 1]} in {block.place(row)}"
                    raise refused(self.path, what, allowed="one group for each series")
            elif group in self._groups and group != next(reversed(self._groups)):
                what = f"group {group} begins again in {block.place(row)}"
                raise refused(self.path, what, fix=f"sort the file by {column}, {self.columns.id} and time")
            self._groups[group] = None

    def _take_frequency(self, block: Block, begins: Ints) -> None:
        for number, stamps in different(block.stamps, block.lengths):
            begin = int(begins[number])
            found = infer(stamps)
            if found is None:
                wrong = next(row for row in range(ENOUGH, len(stamps) + 1) if infer(stamps[:row]) is None) - 1
                what = f"column {self.columns.timestamp!r} is irregular from {block.place(begin + wrong)}"
                raise refused(
                    self.path,
                    f"{what}: {stamps[wrong]} after {stamps[wrong - 1]}",
                    allowed="time stamps at regular distances, none missing, none twice",
                    fix="give --freq, or put in the rows that are missing, without values",
                )
            self.frequency = self.frequency or found
            if found != self.frequency:
                what = (
                    f"column {self.columns.timestamp!r} has the frequency {found} from {block.place(begin)}"
                )
                raise refused(
                    self.path,
                    f"{what}; before it is {self.frequency}",
                    allowed="one frequency",
                    fix="give --freq",
                )

    def _check_observed(self, block: Block, begins: Ints) -> None:
        seen = np.any([~np.isnan(block.values[name]) for name in self.columns.targets], axis=0)
        if not (observed := np.logical_or.reduceat(seen, begins)).all():
            row, named = int(begins[observed.argmin()]), ", ".join(map(repr, self.columns.targets))
            raise refused(
                self.path, f"column {named} has no value from {block.place(row)} on", allowed="at least one"
            )


def check_finite(path: Path, block: Block, numbers: Iterable[str]) -> None:
    """Refuse values that are infinite.

    Raises:
        UsageError: A column of `numbers` has one.
    """
    for name in numbers:
        if (infinite := np.isinf(np.asarray(block.values[name]))).any():
            where = block.place(int(infinite.argmax()))
            raise refused(
                path, f"column {name!r} is infinite in {where}", allowed="what float32 holds, or nothing"
            )


def check_future(path: Path, series: Iterable[Series], data: Survey, steps: int, numbers: list[str]) -> None:
    """Refuse what is known ahead if it is not of all series, in their order, and all steps.

    Args:
        path: Where it is from.
        series: In the order of that file.
        data: What was found in the file that is forecast.
        steps: That are forecast.
        numbers: Columns that must be finite.

    Raises:
        UsageError: It is not.
    """
    assert data.frequency
    names, lasts = list(data.names), np.concatenate(data.lasts)
    fix = f"sort both files by {data.columns.id} and {data.columns.timestamp}"
    count = 0
    for count, block in enumerate(blocks_of(series, 1), start=1):
        (name,) = block.names
        if count > len(names) or name != names[count - 1]:
            wanted = f"series {names[count - 1]}" if count <= len(names) else "nothing"
            raise refused(path, f"{block.place(0)}, stands where {wanted} should, as in {data.path}", fix=fix)
        expected = data.frequency.after(lasts[count - 1 : count], steps)[0]
        common = min(steps, len(block.stamps))
        if (wrong := block.stamps[:common] != expected[:common]).any() or len(block.stamps) > steps:
            row = int(wrong.argmax()) if wrong.any() else steps
            wanted = f"instead of {expected[row]}" if row < steps else f"past the {steps} steps"
            column = data.columns.timestamp
            raise refused(path, f"column {column!r} has {block.stamps[row]} {wanted} in {block.place(row)}")
        if common < steps:
            what = f"there are {common} of {steps} steps from {block.place(0)} on"
            raise refused(path, what, allowed=f"rows for all time stamps up to {expected[-1]}")
        check_finite(path, block, numbers)
    if count < len(names):
        raise refused(
            path,
            f"there are no rows for series {names[count]}",
            allowed=f"all series of {data.path}",
            fix=fix,
        )


def _check_ascending(path: Path, column: str, block: Block, ends: Ints) -> None:
    apart = np.diff(block.stamps).astype(np.int64)
    apart[ends[:-1] - 1] = 1
    if not (apart > 0).all():
        row = int((apart <= 0).argmax()) + 1
        what = (
            f"column {column!r} has {block.stamps[row]} after {block.stamps[row - 1]} in {block.place(row)}"
        )
        raise UsageError(
            f"{path}: {what}", allowed="ascending time stamps, none twice", fix=f"sort by {column}"
        )
