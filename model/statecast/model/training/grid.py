"""The grid that the times of a series lie on: which one it is, and where on it each of them lies."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from ..errors import DataError, FrequencyError
from ..frequency import DAY_NS, Frequency
from .times import calendar, iso

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
# A most common distance that is rarer than this is the accident of irregular times.
_LEAST_COMMON_SHARE = 0.25
# Fewer rows than this say little about their own frequency.
_TELLING_ROWS = 5


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
            f"{len(times) - 1} are of this length; resample the data, or name a frequency"
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
    grid = calendar(frequency, int(times[0]), int(times[-1]))
    numbers = np.minimum(np.searchsorted(grid, days), len(grid) - 1)
    on_base = grid[numbers] == days
    if not on_base.any():
        return numbers, on_base
    steps, on_phase = _phase(numbers, to_offset(frequency.alias).n, on_base)
    return steps, on_base & on_phase


def check(times: NDArray[np.int64], fits: NDArray[np.bool_], alias: str) -> None:
    """Checks what `locate` found.

    Raises:
        DataError: A time does not lie on the grid; names the first one.
    """
    if not fits.all():
        first = iso(int(times[fits.argmin()]))
        raise DataError(
            f"{first} does not lie on the grid of {alias}, as {int((~fits).sum())} of its {len(times)} times do not; "
            f"resample the data, in pandas by resample({alias!r}).mean(), or name another frequency"
        )


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
