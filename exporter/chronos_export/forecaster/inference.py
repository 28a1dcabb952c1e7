"""Which frequency the time stamps of series have.

Derived from `infer_freq` of pandas 3.1 and `infer_freq_from_df` of chronos-forecasting 2.3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError
from chronos_export.forecaster.calendars import (
    FRIDAY,
    MONDAY,
    MONTHS,
    WEEKDAYS,
    Business,
    first_day,
    last_day,
    months_of,
    weekday_of,
)
from chronos_export.forecaster.frequency import BUSINESS_HOUR, FIXED, Frequency, Stamps
from chronos_export.runtime.session import Ints

ENOUGH = 3  # time stamps, as any two are regular
NO_MONTH = 26  # days: the last business days of two months are never closer
NONE, DAY, HOUR = np.timedelta64(0, "s"), np.timedelta64(1, "D"), np.timedelta64(1, "h")


def shared_frequency(stamps: Stamps, lengths: Ints, name: Callable[[int], object]) -> Frequency:
    """Return the one frequency of all series.

    Args:
        stamps: Of all series, one after the other; each ascending.
        lengths: int64 [series], time stamps of each. Those of less than three do not count.
        name: What a series is called, by its number.

    Raises:
        UsageError: One has no frequency, two have different ones, or none has three time stamps.
    """
    found: dict[Frequency, int] = {}
    for number, of_one in different(stamps, lengths):
        frequency = infer(of_one)
        if frequency is None:
            raise UsageError(
                f"Could not infer frequency for series {name(number)}",
                allowed="time stamps at regular distances, none missing, none twice",
                fix="give freq=..., or put in the rows that are missing, with NaN",
            )
        found.setdefault(frequency, number)
    if len(found) > 1:
        each = ", ".join(f"{frequency} for {name(number)}" for frequency, number in found.items())
        raise UsageError(f"All time series must have the same frequency, not {each}", fix="give freq=...")
    if not found:
        raise UsageError(
            "Could not infer frequency: no time series has at least 3 observations",
            fix="Please provide an explicit `freq`.",
        )
    return next(iter(found))


def infer(stamps: Stamps) -> Frequency | None:
    """Return the frequency of at least three time stamps, or None if they have none."""
    deltas = np.unique(np.diff(stamps))
    if deltas[0] <= NONE:
        return None
    if deltas[0] % DAY == NONE:
        return _of_days(stamps, deltas)
    if [delta / HOUR for delta in deltas] in ([1, 17], [1, 65], [1, 17, 65]):
        return Frequency(BUSINESS_HOUR)
    if len(deltas) > 1:
        return None
    unit = next(unit for unit, length in FIXED.items() if deltas[0] % length == NONE)
    return Frequency(unit, int(deltas[0] // FIXED[unit]))


def _of_days(stamps: Stamps, deltas: NDArray[np.timedelta64]) -> Frequency | None:
    days = stamps.astype("M8[D]").astype(np.int64)
    if frequency := _of_months(days):
        return frequency
    if len(deltas) == 1:
        count = int(deltas[0] // DAY)
        weekday = WEEKDAYS[weekday_of(days[0])]
        return Frequency("D", count) if count % 7 else Frequency(f"W-{weekday}", count // 7)
    numbers = Business().number(days)
    if [delta / DAY for delta in deltas] == [1, 3] and _ascends_by_one(numbers, days):
        return Frequency("B")
    return _of_weeks_of_months(days)


def _ascends_by_one(numbers: Ints, days: Ints) -> bool:
    """Whether days are business days, one after the other."""
    return bool((np.diff(numbers) == 1).all() and (Business().day(numbers) == days).all())


def _of_months(days: Ints) -> Frequency | None:
    """What is always at one end of a month."""
    months, weekday = months_of(days), weekday_of(days)
    since, left = days - first_day(months), last_day(months) - days
    ends = {
        "E": left == 0,
        "BE": (left == 0) | ((left < 3) & (weekday == FRIDAY)),
        "S": since == 0,
        "BS": (since == 0) | ((since < 3) & (weekday == MONDAY)),
    }
    place = next((name for name, here in ends.items() if here.all()), None)
    if place is None:
        return None
    business, end, month = place[:-1], place[-1], int(months[0] % 12)
    years, apart = np.unique(np.diff(months // 12)), np.unique(np.diff(months))
    if len(years) == 1 and (months % 12 == month).all():
        return Frequency(f"{business}Y{end}-{MONTHS[month]}", int(years[0]))
    if len(apart) > 1:
        return None
    count = int(apart[0])
    if count % 3:
        return Frequency(f"{business}M{end}", count)
    quarter = month % 3 + (9 if end == "E" else 0)
    return Frequency(f"{business}Q{end}-{MONTHS[quarter]}", count // 3)


def _of_weeks_of_months(days: Ints) -> Frequency | None:
    """What is always on, say, a third Friday; for pandas, months may be left out."""
    weekdays = np.unique(weekday_of(days))
    weeks = np.unique((days - first_day(months_of(days))) // 7)
    weeks = weeks[weeks < 4]
    if len(weekdays) > 1 or len(weeks) != 1:
        return None
    return Frequency(f"WOM-{weeks[0] + 1}{WEEKDAYS[weekdays[0]]}")


def different(stamps: Stamps, lengths: Ints) -> Iterator[tuple[int, Stamps]]:
    """Yield the number and the time stamps of each series that may have a frequency of its own.

    Of those whose stamps are evenly spaced, by less than a month, one a distance and weekday is enough.
    """
    ends = np.cumsum(lengths)
    numbers = np.flatnonzero(lengths >= ENOUGH)
    begins, ends = (ends - lengths)[numbers], ends[numbers]
    apart = np.append(np.diff(stamps), NONE)  # so that the last end is one of its places
    bounds = np.stack([begins, ends - 1], axis=1).ravel()
    least, most = (reduce.reduceat(apart, bounds)[::2] for reduce in (np.minimum, np.maximum))
    regular = (least == most) & (least > NONE) & (most < NO_MONTH * DAY)
    weekday = weekday_of(stamps[begins].astype("M8[D]").astype(np.int64))
    seen: set[tuple[int, int]] = set()
    for place, number in enumerate(numbers.tolist()):
        begin, end = begins[place], ends[place]
        if regular[place]:
            key = int(least[place].astype(np.int64)), int(weekday[place])
            if key in seen:
                continue
            seen.add(key)
            end = begin + ENOUGH
        yield number, stamps[begin:end]
