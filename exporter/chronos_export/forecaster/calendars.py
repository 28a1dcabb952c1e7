"""Days that recur, numbered: ends of months, business days, third Fridays.

The day that is n periods after another has a number n higher, where a day that is none of the calendar's
counts as the one before it: so pandas 3.1 adds the offsets that it infers. Days are counted from
1970-01-01, a Thursday, and months from that one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from chronos_export.runtime.session import Ints

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
MONDAY, FRIDAY = 0, 4
Place = Callable[[Ints], Ints]  # months to one day of each


class Calendar(Protocol):
    """Days that are numbered."""

    def number(self, days: Ints) -> Ints:
        """Return the number of the last day of the calendar that is not after each of these."""
        ...

    def day(self, numbers: Ints) -> Ints:
        """Return the days of some numbers."""
        ...


@dataclass(frozen=True)
class Weekly:
    """One weekday, 0 = Monday."""

    weekday: int

    def number(self, days: Ints) -> Ints:
        """See `Calendar`."""
        return (days + 3 - self.weekday) // 7

    def day(self, numbers: Ints) -> Ints:
        """See `Calendar`."""
        return numbers * 7 - 3 + self.weekday


@dataclass(frozen=True)
class Business:
    """Monday to Friday."""

    def number(self, days: Ints) -> Ints:
        """See `Calendar`."""
        week, weekday = np.divmod(days + 3, 7)
        return week * 5 + np.minimum(weekday, FRIDAY)

    def day(self, numbers: Ints) -> Ints:
        """See `Calendar`."""
        week, weekday = np.divmod(numbers, 5)
        return week * 7 + weekday - 3


@dataclass(frozen=True)
class Monthly:
    """One day of each month, or of each third or twelfth.

    Attributes:
        place: The day of a month.
        every: Months between two days: 1, 3 or 12.
        month: One of the months that have such a day, 0 = January.
    """

    place: Place
    every: int = 1
    month: int = 0

    def number(self, days: Ints) -> Ints:
        """See `Calendar`."""
        periods = (months_of(days) - self.month) // self.every
        return periods - (self.day(periods) > days)

    def day(self, numbers: Ints) -> Ints:
        """See `Calendar`."""
        return self.place(numbers * self.every + self.month)


def weekday_of(days: Ints) -> Ints:
    """Return the weekdays of days, 0 = Monday."""
    return (days + 3) % 7


def months_of(days: Ints) -> Ints:
    """Return the months since 1970-01 of days."""
    return days.astype("M8[D]").astype("M8[M]").astype(np.int64)


def first_day(months: Ints) -> Ints:
    """Return the first days of months."""
    return months.astype("M8[M]").astype("M8[D]").astype(np.int64)


def last_day(months: Ints) -> Ints:
    """Return the last days of months."""
    return first_day(months + 1) - 1


def first_business_day(months: Ints) -> Ints:
    """Return the first days of months that are no weekend."""
    first = first_day(months)
    return first + np.where(weekday_of(first) > FRIDAY, 7 - weekday_of(first), 0)


def last_business_day(months: Ints) -> Ints:
    """Return the last days of months that are no weekend."""
    last = last_day(months)
    return last - np.maximum(weekday_of(last) - FRIDAY, 0)


def week_of_month(week: int, weekday: int) -> Place:
    """Return the place of, say, the third Friday: week 3, weekday 4."""

    def place(months: Ints) -> Ints:
        first = first_day(months)
        return first + (weekday - weekday_of(first)) % 7 + 7 * (week - 1)

    return place
