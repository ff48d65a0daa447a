"""Finds the periods of series that have no calendar, by their autocorrelation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LONGEST_PERIOD = 1000
MOST_ROWS = 20_000
MOST_SERIES = 50
LEAST_CORRELATION = 0.2
MOST_PERIODS = 3
CYCLES_SEEN = 4


def find_periods(values: Sequence[NDArray[np.float64]]) -> tuple[int, ...]:
    """Looks for peaks of the mean autocorrelation of the differences, the highest first, multiples left out.

    Args:
        values: Of some series, NaN where missing, [time, targets] each.

    Returns:
        At most three periods in steps, ascending; none if nothing repeats.
    """
    columns = [each[-MOST_ROWS:, at] for each in values[:MOST_SERIES] for at in range(each.shape[1])]
    longest = min(LONGEST_PERIOD, max(len(column) for column in columns) // CYCLES_SEEN)
    correlations = [each for column in columns if (each := _autocorrelation(column, longest)) is not None]
    if not correlations or longest < 3:
        return ()
    mean = np.mean(correlations, axis=0)
    peaks = [
        lag for lag in range(2, longest) if mean[lag] > LEAST_CORRELATION and mean[lag] == mean[lag - 1 : lag + 2].max()
    ]
    found: list[int] = []
    for lag in sorted(peaks, key=lambda lag: -mean[lag]):
        # A multiple of a period repeats as well, a little less.
        if len(found) < MOST_PERIODS and not any(_is_multiple(lag, period) for period in found):
            found = [period for period in found if not _is_multiple(period, lag)] + [lag]
    return tuple(sorted(found))


def _autocorrelation(column: NDArray[np.float64], longest: int) -> NDArray[np.float64] | None:
    """Of the differences at lags 0 to `longest`; None if they do not vary or are too few."""
    differences = np.diff(column)
    seen = np.isfinite(differences)
    if seen.sum() < 2 * max(longest, 2) or len(differences) <= longest:
        return None
    # Wild values would hide everything else.
    low, high = np.quantile(differences[seen], [0.01, 0.99])
    centred = np.where(seen, np.clip(differences, low, high) - np.clip(differences[seen], low, high).mean(), 0.0)
    power = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
    correlation: NDArray[np.float64] = np.fft.irfft(power)[: longest + 1]
    return None if correlation[0] <= 0 else correlation / correlation[0]


def _is_multiple(lag: int, period: int) -> bool:
    times = round(lag / period)
    return times >= 1 and abs(lag - times * period) <= max(1, times // 2)
