"""The time between two steps, for models that declare one: counts steps and adds them.

pandas is imported only when an alias is parsed, so a model without a frequency does not need it.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import FrequencyError

DAY_NS = 86_400_000_000_000
MILLENNIUM_NS = 10_957 * DAY_NS
MANY_STEPS = 40
MAX_STEPS = 2**62
MAX_STEP_NS = 100 * 366 * DAY_NS
_WRITTEN = re.compile(r"[-+]?[A-Za-z0-9.]+(-[A-Z]+)?")
T = TypeVar("T")


@dataclass(frozen=True)
class Frequency:
    """A grid in time. Times are integer nanoseconds since 1970 in UTC.

    Attributes:
        alias: The pandas alias.
        step_ns: The length of a step; None for a calendar offset such as "MS".
    """

    alias: str
    step_ns: int | None
    _offset: Any

    @classmethod
    def parse(cls, alias: str) -> "Frequency":
        """Parses a pandas alias such as "h", "30min", "D", "MS" or "B".

        Raises:
            FrequencyError: The alias is unknown, not positive, or a calendar offset shorter than a
                day.
        """
        try:
            from pandas.tseries import frequencies, offsets
        except ImportError as error:
            raise FrequencyError(f"{alias}: a model with a frequency needs pandas") from error
        try:
            with warnings.catch_warnings():
                # What this pandas calls outdated, the next one refuses.
                warnings.simplefilter("error")
                offset = frequencies.to_offset(alias) if _WRITTEN.fullmatch(alias) else None
        except (ValueError, TypeError, Warning) as error:
            raise FrequencyError(f"{alias!r}: not a pandas frequency alias: {error}") from error
        if offset is None:
            raise FrequencyError(f"{alias!r}: not a pandas frequency alias")
        if offset.n < 1:
            raise FrequencyError(f"{alias!r}: must go forward in time")
        step_ns = _step_ns(offset, offsets)
        if step_ns is not None and step_ns > MAX_STEP_NS:
            raise FrequencyError(f"{alias!r}: a step of more than a hundred years")
        if step_ns is None and isinstance(offset, offsets.BusinessHour):
            raise FrequencyError(f"{alias!r}: business hours are not supported")
        return cls(alias, step_ns, offset)

    @property
    def usual_step_ns(self) -> int:
        """The length of a step, of a calendar offset the mean over many."""
        if self.step_ns is not None:
            return self.step_ns
        start = int(self._offset.rollforward(_timestamp(MILLENNIUM_NS)).as_unit("ns").value)
        return (self._add_calendar(start, MANY_STEPS) - start) // MANY_STEPS

    def add(self, start_ns: int, steps: int) -> int:
        """Returns the time `steps` after `start_ns`; `steps` may be negative.

        Raises:
            FrequencyError: The start does not lie on the grid, or the result lies beyond the range
                of 64-bit nanoseconds (1677 to 2262).
        """
        if self.step_ns is not None:
            return _in_range(start_ns + steps * self.step_ns, self.alias)
        self._check_on_grid(start_ns)
        if not -MAX_STEPS < steps < MAX_STEPS:
            raise FrequencyError(f"{self.alias}: {steps} steps lead beyond the years 1677 to 2262")
        return self._add_calendar(start_ns, steps)

    def ahead(self, times: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
        """Returns the times `steps` after each of those given, any shape; times must lie on the grid."""
        if self.step_ns is not None:
            return times + steps * self.step_ns
        unique, where = np.unique(times, return_inverse=True)
        later = np.array([self._add_calendar(int(time), steps) for time in unique], np.int64)
        return later[where].reshape(times.shape)

    def steps_between(self, start_ns: int, end_ns: int) -> int:
        """Counts the steps from one time to another; negative if the end is the earlier one.

        Raises:
            FrequencyError: One of the two does not lie on the grid.
        """
        if self.step_ns is not None:
            steps, rest = divmod(end_ns - start_ns, self.step_ns)
            if rest:
                raise FrequencyError(
                    f"{_iso(end_ns)} is not a whole number of {self.alias} steps after {_iso(start_ns)}"
                )
            return steps
        self._check_on_grid(start_ns)
        self._check_on_grid(end_ns)
        if end_ns < start_ns:
            return -self._search(end_ns, start_ns)
        return self._search(start_ns, end_ns)

    def _search(self, start_ns: int, end_ns: int) -> int:
        """Bisects for the number of calendar steps, so that any gap costs a few dozen additions."""
        # No calendar step is shorter than a day.
        low, high = 0, (end_ns - start_ns) // DAY_NS + 1
        while low < high:
            middle = (low + high) // 2
            if self._reaches(start_ns, middle, end_ns):
                high = middle
            else:
                low = middle + 1
        if self._add_calendar(start_ns, low) != end_ns:
            raise FrequencyError(f"{_iso(end_ns)} is not a whole number of {self.alias} steps after {_iso(start_ns)}")
        return low

    def _reaches(self, start_ns: int, steps: int, end_ns: int) -> bool:
        try:
            return self._add_calendar(start_ns, steps) >= end_ns
        except FrequencyError:
            return True

    def _add_calendar(self, start_ns: int, steps: int) -> int:
        if steps == 0:
            return start_ns

        def shifted() -> int:
            return int((_timestamp(start_ns) + self._offset * steps).as_unit("ns").value)

        return _guarded(shifted, self.alias)

    def _check_on_grid(self, time_ns: int) -> None:
        if not _guarded(lambda: self._offset.is_on_offset(_timestamp(time_ns)), self.alias):
            raise FrequencyError(f"{_iso(time_ns)} does not lie on the grid of {self.alias}")


def _step_ns(offset: Any, offsets: Any) -> int | None:
    """Returns the length of a fixed-length offset. A day is always 24 hours: times are UTC."""
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
