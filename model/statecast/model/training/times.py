"""Times as whole nanoseconds since 1970 in UTC: out of columns, out of text, and along a grid."""

import re
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from ..errors import DataError
from ..frequency import DAY_NS, Frequency
from .columns import cast, is_text, plain, texts, wrong

# Neither counters nor seconds since 1970 nor words such as "now", which pandas takes for times.
_ISO = re.compile(r"\s*\d{4}(\s*|\D.*|\d{4}([T ].*)?)")
_ZONE = re.compile(r"[T ]\d{2}.*?(Z|[+-]\d{2}(:?\d{2})?)\s*$")
_UTC = re.compile(r"(Z|[+-]00(:?00)?)\s*$")
# The whole years in the range of 64-bit nanoseconds.
_FIRST_YEAR, _LAST_YEAR = 1678, 2261
_EARLIEST_NS = pd.Timestamp(_FIRST_YEAR, 1, 1).as_unit("ns").value
_LATEST_NS = pd.Timestamp(_LAST_YEAR + 1, 1, 1).as_unit("ns").value - 1
_EXPECTED = f"a time in ISO 8601 such as 2024-01-31 18:00, from {_FIRST_YEAR} to {_LAST_YEAR}"


def iso(time_ns: int) -> str:
    """Returns a time as a message shows it."""
    return pd.Timestamp(time_ns, unit="ns").isoformat()


def moment(value: str | int | datetime) -> int:
    """Returns a time in nanoseconds; one without a time zone is in UTC.

    Args:
        value: ISO 8601, a datetime, or the nanoseconds themselves.

    Raises:
        DataError: The text is no such time.
    """
    if isinstance(value, int):
        return value
    try:
        if isinstance(value, str) and not _ISO.fullmatch(value):
            raise ValueError(value)
        time = pd.Timestamp(value)
        return int((time if time.tzinfo is None else time.tz_convert("UTC")).as_unit("ns").value)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{str(value)!r} is not {_EXPECTED}") from error


def grid_times(frequency: Frequency, start_ns: int, rows: int) -> NDArray[np.int64]:
    """Returns the times of consecutive steps, [rows].

    Raises:
        FrequencyError: The start does not lie on the grid, or the end lies beyond the year 2262.
    """
    last_ns = frequency.add(start_ns, max(rows - 1, 0))
    if frequency.step_ns is not None:
        return start_ns + frequency.step_ns * np.arange(rows, dtype=np.int64)
    clock = start_ns % DAY_NS
    days = calendar(frequency, start_ns, last_ns)
    multiple = to_offset(frequency.alias).n
    first = int(np.searchsorted(days, start_ns - clock))
    return days[first : first + multiple * rows : multiple] + clock


def calendar(frequency: Frequency, first_ns: int, last_ns: int) -> NDArray[np.int64]:
    """Returns the days of a calendar offset, of every step that it is a multiple of, around some times.

    Args:
        frequency: One without a fixed length.
        first_ns: A time that the days surround, as far as 64-bit nanoseconds reach.
        last_ns: Another one, not before the first.

    Returns:
        Midnights in nanoseconds, ascending, [days].
    """
    first, last = (pd.Timestamp(time_ns, unit="ns").year // 10 * 10 for time_ns in (first_ns, last_ns))
    return _calendar(frequency.alias, max(first, _FIRST_YEAR), min(last + 9, _LAST_YEAR))


# The series of a panel mostly lie in the same decades, and pandas takes microseconds for each day.
@lru_cache(maxsize=32)
def _calendar(alias: str, first_year: int, last_year: int) -> NDArray[np.int64]:
    days = pd.date_range(f"{first_year}-01-01", f"{last_year}-12-31", freq=to_offset(alias).base)
    values: NDArray[np.int64] = days.as_unit("ns").asi8.copy()
    values.setflags(write=False)
    return values


def times(name: str, column: Any, written: str | None = None) -> tuple[NDArray[np.int64], int]:
    """Returns a column of times.

    Args:
        name: The column's name.
        column: Texts, dates or timestamps; years or days such as 20240131 may be whole numbers.
        written: How texts are written, as for `strptime`; None for ISO 8601.

    Returns:
        Nanoseconds, [rows], and how many of them were converted from another time zone.

    Raises:
        DataError: A value is missing or no time, or only some of them have a time zone.
    """
    column = plain(column)
    if column.null_count:
        raise wrong(name, column, int(np.argmax(column.is_null().to_numpy())), _EXPECTED)
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    values, converted = _from_text(name, column, written) if is_text(column) else _from_stamps(name, column)
    outside = (values < _EARLIEST_NS) | (values > _LATEST_NS)
    if outside.any():
        raise wrong(name, column, int(outside.argmax()), _EXPECTED)
    return values, converted


def _from_stamps(name: str, column: Any) -> tuple[NDArray[np.int64], int]:
    zone = getattr(column.type, "tz", None)
    converted = len(column) if zone not in (None, "UTC", "Etc/UTC", "Z", "+00:00") else 0
    values = cast(name, column, pa.timestamp("ns", tz=zone), _EXPECTED).cast(pa.int64()).to_numpy()
    return values, converted


def _from_text(name: str, column: Any, written: str | None) -> tuple[NDArray[np.int64], int]:
    # The series of a panel mostly share their times, so each distinct one is parsed once.
    numbers, distinct = texts(name, column)
    try:
        stamps = pd.to_datetime(
            pd.Series(distinct, dtype=object), format=written or "ISO8601", utc=True, errors="coerce"
        )
    except ValueError as error:
        raise DataError(f"column {name!r}: {written!r} does not describe times: {error}") from error
    parsed = pd.DatetimeIndex(stamps).as_unit("ns")
    bad = np.asarray(parsed.isna())
    if written is None:
        bad |= [not _ISO.fullmatch(text) for text in distinct]
    if bad.any():
        row = int(bad[numbers].argmax())
        raise wrong(name, column, row, _EXPECTED if written is None else f"a time written as {written!r}")
    if written is not None:
        return parsed.asi8[numbers], len(numbers) if "%z" in written else 0
    zoned = np.array([_ZONE.search(text) is not None for text in distinct], bool)
    if zoned.any() and not zoned.all():
        row = int((~zoned)[numbers].argmax())
        raise wrong(name, column, row, "a time with a time zone, while others have one")
    converted = zoned & np.array([_UTC.search(text) is None for text in distinct], bool)
    return parsed.asi8[numbers], int(converted[numbers].sum())
