"""The time between two steps, for models that declare it: count steps and add them.

pandas is imported only when an alias is parsed, so a model without a frequency does not need it.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import FrequencyError
from .zones import DAY_NS

MILLENNIUM_NS = 10_957 * DAY_NS
MANY_STEPS = 40
MAX_STEPS = 2**62
MAX_STEP_NS = 100 * 366 * DAY_NS
# The whole years in the range of 64-bit nanoseconds.
FIRST_YEAR, LAST_YEAR = 1678, 2261
FIRST_DECADE, LAST_DECADE = 1670, 2260
EARLIEST_DAY, LATEST_DAY = "1677-09-22", "2262-04-11"
YEAR_NS = 31_556_952_000_000_000
_WRITTEN = re.compile(r"[-+]?[A-Za-z0-9.]+(-[A-Z]+)?")
T = TypeVar("T")


@dataclass(frozen=True)
class Frequency:
    """A grid of times, in integer nanoseconds since 1970.

    Times are in UTC; for steps that count days, they are wall clock times (`zones`).

    Attributes:
        alias: The pandas alias.
        step_ns: The length of a step; None for a calendar offset such as "MS".
    """

    alias: str
    step_ns: int | None
    _offset: Any

    @classmethod
    def parse(cls, alias: str) -> "Frequency":
        """Parse a pandas alias such as "h", "30min", "D", "MS" or "B".

        Raises:
            FrequencyError: The alias is unknown, not positive, a calendar offset shorter than a day, or longer than a
                hundred years.
        """
        return _parse(alias)

    def is_same(self, other: "Frequency") -> bool:
        """Return True if both have the same grid, such as "h" and "60min"."""
        return self.step_ns == other.step_ns and (self.step_ns is not None or self._offset == other._offset)

    @cached_property
    def usual_step_ns(self) -> int:
        """The length of a step; for a calendar offset, the mean over many steps."""
        if self.step_ns is not None:
            return self.step_ns
        start = int(self._offset.rollforward(_timestamp(MILLENNIUM_NS)).as_unit("ns").value)
        steps = min(MANY_STEPS, max(1, MAX_STEP_NS // (self._add_calendar(start, 1) - start)))
        return (self._add_calendar(start, steps) - start) // steps

    def add(self, start_ns: int, steps: int) -> int:
        """Return the time `steps` after `start_ns`; `steps` may be negative.

        Raises:
            FrequencyError: The start does not lie on the grid, or the result lies beyond the range of 64-bit
                nanoseconds (1677 to 2262).
        """
        if self.step_ns is not None:
            return _in_range(start_ns + steps * self.step_ns, self.alias)
        self._check_on_grid(start_ns)
        if not -MAX_STEPS < steps < MAX_STEPS:
            raise FrequencyError(f"{self.alias}: {steps} steps lead beyond the years 1677 to 2262")
        return self._add_calendar(start_ns, steps)

    @property
    def counts_days(self) -> bool:
        """True if a step is a day or longer, so that its beginning depends on the time zone."""
        return self.step_ns is None or self.step_ns >= DAY_NS

    @property
    def multiple(self) -> int:
        """The number of days of `days` that a step of a calendar offset spans."""
        return int(self._offset.n)

    def ahead(self, times: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
        """Return the times `steps` after each given time, any shape; times must lie on the grid."""
        if self.step_ns is not None:
            return times + steps * self.step_ns
        unique, where = np.unique(times, return_inverse=True)
        later = np.array([self._add_calendar(int(time), steps) for time in unique], np.int64)
        return later[where].reshape(times.shape)

    def times(self, start_ns: int, steps: int) -> NDArray[np.int64]:
        """Return the times of consecutive steps, int64 [steps].

        Raises:
            FrequencyError: The start does not lie on the grid, or the end lies beyond the year 2262.
        """
        last_ns = self.add(start_ns, max(steps - 1, 0))
        if self.step_ns is not None:
            return start_ns + self.step_ns * np.arange(steps, dtype=np.int64)
        days, clock = self.days(start_ns, last_ns), start_ns % DAY_NS
        first = int(np.searchsorted(days, start_ns - clock))
        return days[first : first + self.multiple * steps : self.multiple] + clock

    def days(self, first_ns: int, last_ns: int) -> NDArray[np.int64]:
        """Return the days on which steps of a calendar offset can begin, around a span of time.

        Args:
            first_ns: The first time of the span. The days begin before it, as far as 64-bit nanoseconds reach.
            last_ns: The last time of the span, not before the first.

        Returns:
            Midnights in nanoseconds, ascending, int64 [days].
        """
        first, last = (
            1970 + time_ns // YEAR_NS // 10 * 10 for time_ns in (first_ns - 2 * DAY_NS, last_ns + 2 * DAY_NS)
        )
        return _days(self._offset.base.freqstr, max(first, FIRST_DECADE), min(last, LAST_DECADE))

    def steps_between(self, start_ns: int, end_ns: int) -> int:
        """Count the steps from one time to another; negative if the end is earlier.

        Raises:
            FrequencyError: One of the two times does not lie on the grid.
        """
        if self.step_ns is not None:
            steps, rest = divmod(end_ns - start_ns, self.step_ns)
            fits = not rest
        else:
            located, on_grid = self.locate(start_ns, np.array([end_ns]))
            steps, fits = int(located[0]), bool(on_grid[0])
        if not fits:
            raise FrequencyError(f"{_iso(end_ns)} is not a whole number of {self.alias} steps after {_iso(start_ns)}")
        return steps

    def locate(self, start_ns: int, times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Count the steps from one time to many.

        Args:
            start_ns: A time on the grid.
            times: The times to locate, int64 [N].

        Returns:
            The number of steps, int64 [N], negative before the start, and whether each time lies on the grid, [N]. A
            time off the grid gets the number of the last step before it.

        Raises:
            FrequencyError: The start does not lie on the grid.
        """
        if self.step_ns is not None:
            steps, rest = np.divmod(times - start_ns, self.step_ns)
            return steps, rest == 0
        self._check_on_grid(start_ns)
        clock = start_ns % DAY_NS
        days = self.days(min(start_ns, int(times.min())), max(start_ns, int(times.max())))
        numbers = np.searchsorted(days, times - clock, side="right") - 1
        steps, rest = np.divmod(numbers - np.searchsorted(days, start_ns - clock), self.multiple)
        return steps, (rest == 0) & (days[numbers.clip(min=0)] == times - clock)

    def period_of(self, time_ns: int) -> int:
        """Return the date of the period around a time: its first or last day, depending on the frequency.

        Args:
            time_ns: A time; for steps of a fixed length, it is returned unchanged.
        """
        if self.step_ns is not None or self._is_on_grid(time_ns):
            return time_ns
        clock = time_ns % DAY_NS
        days = self.days(time_ns, time_ns)
        later = int(np.searchsorted(days, time_ns - clock))
        ends = type(self._offset).__name__.endswith("End") or type(self._offset).__name__ == "Week"
        return int(days[min(later if ends else later - 1, len(days) - 1)]) + clock

    def _add_calendar(self, start_ns: int, steps: int) -> int:
        if steps == 0:
            return start_ns

        def shifted() -> int:
            return int((_timestamp(start_ns) + self._offset * steps).as_unit("ns").value)

        return _guarded(shifted, self.alias)

    def _check_on_grid(self, time_ns: int) -> None:
        if not self._is_on_grid(time_ns):
            raise FrequencyError(f"{_iso(time_ns)} does not lie on the grid of {self.alias}")

    def _is_on_grid(self, time_ns: int) -> bool:
        return _guarded(lambda: bool(self._offset.is_on_offset(_timestamp(time_ns))), self.alias)


# Cached, because a session names its frequency when it is read.
@lru_cache(maxsize=256)
def _parse(alias: str) -> Frequency:
    try:
        from pandas.tseries import frequencies, offsets
    except ImportError as error:
        raise FrequencyError(f"{alias}: a model with a frequency needs pandas") from error
    try:
        with warnings.catch_warnings():
            # The next pandas refuses the aliases that this one calls outdated.
            warnings.simplefilter("error")
            offset = frequencies.to_offset(alias) if _WRITTEN.fullmatch(alias) else None
    except Warning as error:  # tells the alias to use instead
        raise FrequencyError(f"{alias!r}: not a pandas frequency alias: {error}") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise FrequencyError(f"{alias!r}: not a pandas frequency alias") from error
    if offset is None:
        raise FrequencyError(f"{alias!r}: not a pandas frequency alias")
    if offset.n < 1:
        raise FrequencyError(f"{alias!r}: must go forward in time")
    step_ns = _step_ns(offset, offsets)
    if step_ns is None and isinstance(offset, offsets.BusinessHour):
        raise FrequencyError(f"{alias!r}: business hours are not supported")
    frequency = Frequency(alias, step_ns, offset)
    if _is_too_long(frequency):
        raise FrequencyError(f"{alias!r}: a step of more than a hundred years")
    return frequency


def _is_too_long(frequency: Frequency) -> bool:
    try:
        return frequency.usual_step_ns > MAX_STEP_NS
    except (FrequencyError, ValueError):  # beyond the range of times
        return True


# Most sessions and series lie in the same decades.
@lru_cache(maxsize=16)
def _days(alias: str, first_decade: int, last_decade: int) -> NDArray[np.int64]:
    return np.concatenate([_days_of_decade(alias, decade) for decade in range(first_decade, last_decade + 10, 10)])


# Cached, because pandas takes microseconds for each day.
@lru_cache(maxsize=2048)
def _days_of_decade(alias: str, decade: int) -> NDArray[np.int64]:
    from pandas import date_range
    from pandas.tseries.frequencies import to_offset

    first = EARLIEST_DAY if decade == FIRST_DECADE else f"{decade}-01-01"
    last = LATEST_DAY if decade == LAST_DECADE else f"{decade + 9}-12-31"
    days = date_range(first, last, freq=to_offset(alias).base, unit="s")
    values: NDArray[np.int64] = days.as_unit("ns").asi8.copy()
    values.setflags(write=False)
    return values


def _step_ns(offset: Any, offsets: Any) -> int | None:
    """Return the length of a fixed-length offset, else None. A day is always 24 hours: these clocks never change."""
    if isinstance(offset, offsets.Day):
        return int(offset.n) * DAY_NS
    if isinstance(offset, offsets.Tick):
        return int(offset.nanos)
    return None


def _timestamp(time_ns: int) -> Any:
    from pandas import Timestamp

    return Timestamp(time_ns, unit="ns")


def _guarded(compute: Callable[[], T], alias: str) -> T:
    try:
        return compute()
    except (ValueError, OverflowError) as error:
        raise FrequencyError(f"{alias}: a time lies beyond the years 1677 to 2262") from error


def _in_range(time_ns: int, alias: str) -> int:
    if not -(2**63) <= time_ns < 2**63:
        raise FrequencyError(f"{alias}: a time lies beyond the years 1677 to 2262")
    return time_ns


def _iso(time_ns: int) -> str:
    from datetime import UTC, datetime, timedelta

    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        return f"{time_ns} ns"
    return moment.isoformat()
