"""How far apart the time stamps of a series are, and which follow.

Derived from `infer_freq` and the offsets of pandas 3.1, which upstream's `predict_df` asks; frames of other
libraries have none of that. Frequencies have pandas' names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chronos_export.errors import UsageError
from chronos_export.forecaster.calendars import (
    MONTHS,
    WEEKDAYS,
    Business,
    Calendar,
    Monthly,
    Weekly,
    first_business_day,
    first_day,
    last_business_day,
    last_day,
    week_of_month,
)
from chronos_export.runtime.session import Ints

Stamps = NDArray[np.datetime64]
FIXED: dict[str, np.timedelta64] = {
    "D": np.timedelta64(1, "D"),
    "h": np.timedelta64(1, "h"),
    "min": np.timedelta64(1, "m"),
    "s": np.timedelta64(1, "s"),
    "ms": np.timedelta64(1, "ms"),
    "us": np.timedelta64(1, "us"),
    "ns": np.timedelta64(1, "ns"),
}
PLACES = {"E": last_day, "BE": last_business_day, "S": first_day, "BS": first_business_day}
PERIODS = {"Y": 12, "Q": 3, "M": 1}
BUSINESS_HOUR = "bh"
OPENS, CLOSES = np.timedelta64(9, "h"), np.timedelta64(17, "h")
ALLOWED = (
    "h, min, s, ms, us, ns, D, B, W-SUN, MS, ME, QS-JAN, QE-DEC, YS-JAN, YE-DEC, the same of business days"
    " (BMS, BME, ...), WOM-3FRI, bh; of other days or months, and with a count before it: 15min"
)
_DAY, _MONTH = "|".join(WEEKDAYS), "|".join(MONTHS)
_CALENDARS = re.compile(
    rf"(?P<business>B)|W(-(?P<weekday>{_DAY}))?|WOM-(?P<week>[1-4])(?P<of>{_DAY})"
    rf"|(?P<open>B?)((?P<period>[QY])(?P<at>[SE])(-(?P<month>{_MONTH}))?|M(?P<monthly>[SE]))"
)


@dataclass(frozen=True)
class Frequency:
    """A unit of time, and how many of it.

    Attributes:
        unit: As pandas calls it: "h", "W-SUN", "ME", "QS-JAN".
        count: How many.
    """

    unit: str
    count: int = 1

    def __str__(self) -> str:
        return self.unit if self.count == 1 else f"{self.count}{self.unit}"

    def after(self, last: Stamps, steps: int) -> Stamps:
        """Return the time stamps that follow.

        Args:
            last: [series], of any unit.
            steps: How many each.

        Returns:
            [series, steps], of the same unit, or of a finer one if the frequency needs it.

        Raises:
            UsageError: They are more than the unit can count.
        """
        after = self._after(last, self.count * np.arange(1, steps + 1))
        if not (after[:, -1] > last).all():
            raise UsageError(
                f"{steps} steps of {self} after {last.max()} are past the end of {after.dtype.str[1:]}",
                fix="give time stamps of a coarser unit, say datetime64[us]",
            )
        return after

    def _after(self, last: Stamps, numbers: Ints) -> Stamps:
        found: Stamps
        if self.unit in FIXED:
            found = last[:, None] + numbers * FIXED[self.unit]
        elif self.unit == BUSINESS_HOUR:
            found = _business_hours(last, numbers)
        else:
            calendar, days = calendar_of(self.unit), last.astype("M8[D]")
            after = calendar.day(calendar.number(days.astype(np.int64))[:, None] + numbers)
            found = after.astype("M8[D]") + (last - days)[:, None]
        return found


def parse(name: str) -> Frequency:
    """Return the frequency of a name that pandas would understand.

    Raises:
        UsageError: It is none, or one of those that no series of time stamps tells.
    """
    found = re.fullmatch(r"(\d*)(.+)", name)
    count, unit = (int(found[1] or 1), found[2]) if found else (0, name)
    if count < 1 or not (unit in (*FIXED, BUSINESS_HOUR) or _CALENDARS.fullmatch(unit)):
        raise UsageError(f"freq is {name!r}", allowed=ALLOWED)
    return Frequency(unit, count)


def calendar_of(unit: str) -> Calendar:
    """Return the calendar of a unit that is not of fixed length."""
    found = _CALENDARS.fullmatch(unit)
    assert found
    if found["business"]:
        return Business()
    if found["week"]:
        return Monthly(week_of_month(int(found["week"]), WEEKDAYS.index(found["of"])))
    if found["monthly"]:
        return Monthly(PLACES[found["open"] + found["monthly"]])
    if found["period"]:
        month = found["month"] or ("JAN" if found["at"] == "S" else "DEC")
        place = PLACES[found["open"] + found["at"]]
        return Monthly(place, PERIODS[found["period"]], MONTHS.index(month))
    return Weekly(WEEKDAYS.index(found["weekday"] or "SUN"))


def _business_hours(last: Stamps, numbers: Ints) -> Stamps:
    """From nine to five on business days; five is the next day's nine."""
    business, days = Business(), last.astype("M8[D]")
    number = business.number(days.astype(np.int64))
    closed = business.day(number) != days.astype(np.int64)
    since_opening = np.where(closed, CLOSES, np.clip(last - days, OPENS, CLOSES)) - OPENS
    hours = (number * (CLOSES - OPENS) + since_opening)[:, None] + numbers.astype("m8[h]")
    number, since_opening = np.divmod(hours, CLOSES - OPENS)
    found: Stamps = business.day(number).astype("M8[D]") + OPENS + since_opening
    return found
