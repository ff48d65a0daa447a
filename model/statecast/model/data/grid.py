"""The grid of a series' times: infer its frequency, and locate each time on it."""

from collections.abc import Iterator
from zoneinfo import available_timezones

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DataError, FrequencyError
from ..frequency import Frequency
from ..zones import DAY_NS, SECOND_NS, Zone
from .times import Written, iso, offset_text

_UNITS_NS = {
    "D": DAY_NS,
    "h": 3_600_000_000_000,
    "min": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_MONTH_DAYS = 30.436875
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
# When clocks are put forward, a day has 23 hours; this leaves some room.
_SHORTEST_DAY_NS = 22 * 3600 * SECOND_NS
# Messages prefer these zones among those with the same clock. So many times suffice to distinguish zones.
_WELL_KNOWN = ("Europe/Berlin", "Europe/London", "America/New_York", "America/Los_Angeles", "Australia/Sydney")
_TELLING_TIMES = 400
# A zone has two offsets from UTC, or three if its rules changed.
_MOST_OFFSETS = 3
_NEARLY = 0.02
# The last day that every month has.
_LATEST_COMMON_DAY = 28
# If even the most common distance is rarer than this share, the times are irregular.
_LEAST_COMMON_SHARE = 0.25
# Fewer rows than this do not show their own frequency reliably.
_TELLING_ROWS = 5


def look_daily(times: NDArray[np.int64], series: NDArray[np.int64], last: int | None) -> bool:
    """Return whether times mostly lie a day or more apart.

    Args:
        times: In nanoseconds, in any order, [rows].
        series: The number of each row's series, [rows].
        last: The last time to look at; None for all.
    """
    if last is not None:
        series, times = series[times <= last], times[times <= last]
    order = np.lexsort((times, series))
    apart = np.diff(times[order])[np.diff(series[order]) == 0]
    apart = apart[apart > 0]
    return bool(apart.size) and bool(np.median(apart) >= _SHORTEST_DAY_NS)


def infer(times: NDArray[np.int64]) -> str:
    """Infer the frequency of times, of which some may be missing.

    Args:
        times: Ascending and distinct, in nanoseconds, [rows].

    Returns:
        A pandas alias.

    Raises:
        DataError: There are fewer than two times, no distance between them is common, or they lie in mid-period.
    """
    if len(times) < 2:
        raise DataError("a frequency cannot be inferred from a single time; name it")
    alias = pd.infer_freq(pd.DatetimeIndex(times)) if len(times) > 2 else None
    if alias and _is_usable(alias):
        return alias
    distance, count = _most_common(np.diff(times))
    if distance <= 0:  # the difference of two 64-bit times may overflow
        raise DataError(f"{iso(int(times[0]))} and {iso(int(times[-1]))} are too far apart")
    if count < _LEAST_COMMON_SHARE * (len(times) - 1):
        raise DataError(
            f"the times are irregular: the most common distance is {_fixed(distance)}, and only {count} of "
            f"{len(times) - 1} are of this length; resample the data, in pandas by "
            f"resample({_unit_within(int(np.median(np.diff(times))))!r}).mean(), or name a frequency"
        )
    if alias := _mid_period(times):
        raise DataError(
            f"the times lie in mid-period, the first at {iso(int(times[0]))}; date each row by the first day of its "
            f"period, in pandas by resample({alias!r}).mean()"
        )
    candidates = [*_calendars(distance, times), _fixed(distance)]
    return max(candidates, key=lambda candidate: locate(times, Frequency.parse(candidate))[1].sum())


def locate(times: NDArray[np.int64], frequency: Frequency) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Locate times on a grid.

    Args:
        times: Ascending, in nanoseconds, [rows], at least one.
        frequency: The step; the majority of the times decide where the grid begins.

    Returns:
        The number of each time's step, [rows], counted from an arbitrary origin, and whether the time lies on the grid,
        [rows].
    """
    if frequency.step_ns is not None:
        return _phase(times, frequency.step_ns)
    clock, _ = _most_common(times % DAY_NS)
    days = times - clock
    grid = frequency.days(int(times[0]), int(times[-1]))
    numbers = np.minimum(np.searchsorted(grid, days), len(grid) - 1)
    on_base = grid[numbers] == days
    if not on_base.any():
        return numbers, on_base
    steps, on_phase = _phase(numbers, frequency.multiple, on_base)
    return steps, on_base & on_phase


def check(times: NDArray[np.int64], fits: NDArray[np.bool_], frequency: Frequency, written: Written) -> None:
    """Check that all times lie on the grid, as `locate` found.

    Raises:
        DataError: A time does not lie on the grid; the message names the first such time and a remedy.
    """
    if fits.all():
        return
    alias = frequency.alias
    problem = (
        f"{iso(int(times[fits.argmin()]))} does not lie on the grid of {alias}, as {int((~fits).sum())} of its "
        f"{len(times)} times do not"
    )
    if frequency.counts_days and (zone := _zone_of(times, frequency, written)):
        if written.is_zoned:
            raise DataError(f"{problem}; they are midnights in {zone}, so name that zone: --time-zone {zone}")
        raise DataError(
            f"{problem}; in UTC they are midnights in {zone}: write them with their offset, as {iso(int(times[0]))}Z, "
            f"and name that zone: --time-zone {zone}"
        )
    alias = _rounded(frequency)
    raise DataError(
        f"{problem}; resample the data, in pandas by resample({alias!r}).mean(), name another frequency, or let only "
        "position count (--no-time)"
    )


def _zone_of(times: NDArray[np.int64], frequency: Frequency, written: Written) -> str:
    """Return a zone where the times are midnights; empty without one or the times are not instants."""
    if written.is_zoned and written.offset_ns is None:
        return ""
    instants = np.unique(times - (written.offset_ns or 0))
    some = instants[np.linspace(0, len(instants) - 1, min(len(instants), _TELLING_TIMES)).astype(np.int64)]
    clocks = np.unique(some % DAY_NS)
    if len(clocks) == 1:
        offset = int(-clocks[0] % DAY_NS)
        zone = offset_text(offset if offset <= DAY_NS // 2 else offset - DAY_NS)
        return zone if offset and locate(instants + (Zone.parse(zone).offset_ns or 0), frequency)[1].all() else ""
    if len(clocks) > _MOST_OFFSETS:
        return ""
    names = (*_WELL_KNOWN, *sorted(name for name in available_timezones() if "/" in name))
    return next((name for name in names if not (Zone.parse(name).walls(some) % DAY_NS).any()), "")


def _unit_within(distance: int) -> str:
    """Return the longest common unit that is not longer than a distance."""
    return next((unit for unit, length in _UNITS_NS.items() if length <= distance), "ns")


def _rounded(frequency: Frequency) -> str:
    """Return the alias of a common step of nearly the same length, or else the frequency's own."""
    for alias in ("D", "h", "30min", "15min", "10min", "5min", "min", "s"):
        usual = Frequency.parse(alias).usual_step_ns
        if frequency.step_ns and abs(frequency.step_ns - usual) < _NEARLY * usual:
            return alias
    return frequency.alias


def own_frequency(times: NDArray[np.int64], steps: NDArray[np.int64], fits: NDArray[np.bool_]) -> str | None:
    """Return a series' own frequency if its steps differ from those of the panel; None if not, or if unclear."""
    if len(times) < _TELLING_ROWS or (fits.all() and _most_common(np.diff(steps))[0] == 1):
        return None
    try:
        return infer(times)
    except (DataError, FrequencyError):
        return None


def _is_usable(alias: str) -> bool:
    try:
        Frequency.parse(alias)
    except FrequencyError:
        return False
    return True


def _phase(
    numbers: NDArray[np.int64], step: int, among: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Divide numbers by a step; the most common remainder marks the grid."""
    phase, _ = _most_common(numbers % step if among is None else (numbers % step)[among])
    steps, rest = np.divmod(numbers, step)
    return steps, rest == phase


def _most_common(numbers: NDArray[np.int64]) -> tuple[int, int]:
    values, counts = np.unique(numbers, return_counts=True)
    best = int(counts.argmax())
    return int(values[best]), int(counts[best])


def _fixed(distance: int) -> str:
    unit, unit_ns = next((unit, length) for unit, length in _UNITS_NS.items() if distance % length == 0)
    return f"{_multiple(distance // unit_ns)}{unit}"


def _multiple(count: int) -> str:
    return str(count) if count > 1 else ""


def _calendars(distance: int, times: NDArray[np.int64]) -> Iterator[str]:
    """Yield the calendar offsets whose steps can have this length."""
    if distance == DAY_NS and int(times[-1]) - int(times[0]) >= 7 * DAY_NS:  # a week always contains a weekend
        yield "B"
    if distance % (7 * DAY_NS) == 0:
        weekday, _ = _most_common((times // DAY_NS + 3) % 7)  # the first day of 1970 was a Thursday
        yield f"{_multiple(distance // (7 * DAY_NS))}W-{_WEEKDAYS[weekday]}"
    months = round(distance / DAY_NS / _MONTH_DAYS)
    if months and abs(distance / DAY_NS - months * _MONTH_DAYS) <= 4:
        yield from _of_months(months, times)


def _mid_period(times: NDArray[np.int64]) -> str:
    """Return the frequency of times that all lie on the same day in the middle of a month; otherwise empty."""
    calendar = pd.DatetimeIndex(times)
    if len(times) < _TELLING_ROWS or calendar.day.nunique() > 1 or not 1 < calendar.day[0] <= _LATEST_COMMON_DAY:
        return ""
    months = np.gcd.reduce(np.diff(12 * calendar.year.to_numpy() + calendar.month.to_numpy()))
    return {1: "MS", 3: "QS", 12: "YS"}.get(int(months), f"{months}MS") if months else ""


def _of_months(months: int, times: NDArray[np.int64]) -> Iterator[str]:
    if months % 3:
        yield from (f"{_multiple(months)}{unit}" for unit in ("MS", "ME", "BMS", "BME"))
        return
    years = months % 12 == 0
    calendar = pd.DatetimeIndex(times).month.to_numpy()
    month, _ = _most_common(calendar if years else (calendar - 1) % 3 + 1)
    count = _multiple(months // 12 if years else months // 3)
    units = ("YS", "YE", "BYS", "BYE") if years else ("QS", "QE", "BQS", "BQE")
    yield from (f"{count}{unit}-{_MONTHS[month - 1]}" for unit in units)
