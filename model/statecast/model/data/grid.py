"""The grid that the times of a series lie on: which one it is, and where on it each of them lies."""

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
# Days are a little shorter than this where clocks are put forward.
_SHORTEST_DAY_NS = 22 * 3600 * SECOND_NS
# Zones to name first of those with the same clock; and how many times are enough to tell zones apart.
_WELL_KNOWN = ("Europe/Berlin", "Europe/London", "America/New_York", "America/Los_Angeles", "Australia/Sydney")
_TELLING_TIMES = 400
# A zone has two offsets from UTC, three where it changed its mind.
_MOST_OFFSETS = 3
_NEARLY = 0.02
# Day of the month from which on a month may not have it.
_LATEST_COMMON_DAY = 28
# A most common distance that is rarer than this is the accident of irregular times.
_LEAST_COMMON_SHARE = 0.25
# Fewer rows than this say little about their own frequency.
_TELLING_ROWS = 5


def look_daily(times: NDArray[np.int64], series: NDArray[np.int64], last: int | None) -> bool:
    """Whether times mostly lie a day or more apart.

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
    """Infers the frequency of times, whatever is missing among them.

    Args:
        times: Ascending and distinct, in nanoseconds, [rows].

    Returns:
        A pandas alias.

    Raises:
        DataError: There are less than two times, or no distance between them is common.
    """
    if len(times) < 2:
        raise DataError("a frequency cannot be inferred from a single time; name it")
    alias = pd.infer_freq(pd.DatetimeIndex(times)) if len(times) > 2 else None
    if alias and _is_usable(alias):
        return alias
    distance, count = _most_common(np.diff(times))
    if distance <= 0:  # the difference of two times of 64 bits need not fit into 64 bits
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
    """Finds where on a grid times lie.

    Args:
        times: Ascending, in nanoseconds, [rows], at least one.
        frequency: The step; where the grid begins, most of the times decide.

    Returns:
        The number of each time's step, [rows], counted from somewhere, and whether the time lies on the grid, [rows].
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
    """Checks what `locate` found.

    Raises:
        DataError: A time does not lie on the grid; names the first one, and what to do.
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
    """Returns a zone where the times are midnights; empty if there is none, or they do not tell instants."""
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
    """Returns the longest usual unit that is not longer than a distance."""
    return next((unit for unit, length in _UNITS_NS.items() if length <= distance), "ns")


def _rounded(frequency: Frequency) -> str:
    """Returns the alias of a usual step that is nearly as long, or else its own."""
    for alias in ("D", "h", "30min", "15min", "10min", "5min", "min", "s"):
        usual = Frequency.parse(alias).usual_step_ns
        if frequency.step_ns and abs(frequency.step_ns - usual) < _NEARLY * usual:
            return alias
    return frequency.alias


def own_frequency(times: NDArray[np.int64], steps: NDArray[np.int64], fits: NDArray[np.bool_]) -> str | None:
    """Returns the frequency of times that go by other steps than most of a panel; None if they do not."""
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
    """Divides by a step, from the rest on that most have."""
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
    """Yields the calendar offsets whose steps can be of such a length."""
    if distance == DAY_NS and int(times[-1]) - int(times[0]) >= 7 * DAY_NS:  # shorter ones need not cross a weekend
        yield "B"
    if distance % (7 * DAY_NS) == 0:
        weekday, _ = _most_common((times // DAY_NS + 3) % 7)  # the first day of 1970 was a Thursday
        yield f"{_multiple(distance // (7 * DAY_NS))}W-{_WEEKDAYS[weekday]}"
    months = round(distance / DAY_NS / _MONTH_DAYS)
    if months and abs(distance / DAY_NS - months * _MONTH_DAYS) <= 4:
        yield from _of_months(months, times)


def _mid_period(times: NDArray[np.int64]) -> str:
    """Returns the frequency of times that lie on one day in the middle of their months; empty if they do not."""
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
