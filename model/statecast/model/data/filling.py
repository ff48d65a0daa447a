"""Put the rows of series on their common grid, and insert rows of missing values at missing times."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..frequency import Frequency
from .columns import shortened
from .findings import FindingsCollector
from .grid import check, infer, locate, own_frequency
from .panel import Series
from .rows import Rows
from .times import iso

# More missing values than this are refused, so that one wrong year does not exhaust the memory.
_MOST_INSERTED = 1_000_000
_MOST_INSERTED_PER_VALUE = 20


def common_frequency(parts: Sequence[Rows]) -> str:
    """Infer the common frequency of series with times from the longest series.

    Args:
        parts: The distinct rows of each series, in order.

    Raises:
        DataError: The frequency cannot be inferred, or a series has other steps.
    """
    longest = max(parts, key=len)
    try:
        alias = infer(_times(longest))
    except DataError as error:
        raise DataError(f"series {shortened(longest.unique_id)}: {error}") from error
    frequency = Frequency.parse(alias)
    for part in parts:
        other = own_frequency(_times(part), *locate(_times(part), frequency))
        if other not in (None, alias):
            raise DataError(
                f"series {shortened(part.unique_id)} goes by steps of {other}, "
                f"but series {shortened(longest.unique_id)} by steps of {alias}; put them into two files, or name a "
                "frequency that suits both"
            )
    return alias


def filled(
    parts: Sequence[Rows], frequency: Frequency | None, max_rows: int | None, collector: FindingsCollector
) -> Iterator[tuple[Rows, Series]]:
    """Yield the rows kept of each series, and the regular series made of them.

    Args:
        parts: The distinct rows of each series, in order.
        frequency: The grid; None if only position counts.
        max_rows: How many steps of each series to keep; None for all.
        collector: Counts the rows inserted and cut.

    Raises:
        DataError: A time does not lie on the grid, or too many times are missing.
    """
    left = _MOST_INSERTED + _MOST_INSERTED_PER_VALUE * sum(part.values.size for part in parts)
    for part in parts:
        steps = np.arange(len(part)) if frequency is None else _steps(part, frequency)
        kept = steps < (max_rows or steps[-1] + 1)
        collector.add("cut", int((~kept).sum()))
        rows = part.take(kept)
        series = _spread(rows, steps[kept], left, collector)
        left -= series.values.size - rows.values.size
        yield rows, series


def _steps(part: Rows, frequency: Frequency) -> NDArray[np.int64]:
    """Count the steps since the first row, [rows]."""
    times = _times(part)
    steps, fits = locate(times, frequency)
    try:
        check(times, fits, frequency, part.written)
    except DataError as error:
        raise DataError(f"series {shortened(part.unique_id)}: {error}") from error
    steps -= steps[0]
    if steps[-1] < 0:  # more steps than 64 bits can count
        raise DataError(f"series {shortened(part.unique_id)}: too many missing times of {frequency.alias}")
    return steps


def _spread(part: Rows, steps: NDArray[np.int64], left: int, collector: FindingsCollector) -> Series:
    rows = int(steps[-1]) + 1
    inserted = rows - len(part)
    start_ns = None if part.times is None else int(part.times[0])
    values = part.values
    if inserted:
        gaps = np.diff(steps)
        widest = int(gaps.argmax())
        where = (
            f"series {shortened(part.unique_id)}: {inserted}, the most in a row "
            f"{gaps[widest] - 1} between {iso(int(_times(part)[widest]))} and {iso(int(_times(part)[widest + 1]))}"
        )
        if inserted * values.shape[1] > left:
            raise DataError(f"too many missing times, {where}; is a time wrong, or the frequency?")
        collector.add("inserted", inserted, where)
        values = np.full((rows, values.shape[1]), np.nan)
        values[steps] = part.values
    return Series(part.unique_id, start_ns, values, part.static_categories())


def _times(part: Rows) -> NDArray[np.int64]:
    if part.times is None:
        raise DataError("there is no column of times")
    return part.times
