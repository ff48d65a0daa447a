"""Finds the periods of series that have no calendar, by their autocorrelation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LONGEST_PERIOD = 1000
MOST_ROWS = 20_000
MOST_SERIES = 50
MOST_PERIODS = 3
CYCLES_SEEN = 4
# Means of so many steps are compared with their neighbours: long periods drown in the noise of single steps.
WIDTHS = (1, 4, 16)
LEAST_CORRELATION = 0.2
LEAST_DEVIATIONS = 4.0
# So much higher than that of its divisor a multiple's correlation has to be to be a period of its own.
LEAST_GAIN = 0.05
# And so high, as a share of its multiple's, a divisor's.
LEAST_SHARE = 0.5
# Differences that vary less than this share of the values are rounding.
LEAST_VARIATION = 1e-9
Values = NDArray[np.float64]


def find_periods(values: Sequence[Values]) -> tuple[int, ...]:
    """Looks for peaks of the mean autocorrelation of differences between neighbouring means, the highest first.

    Neither noise nor random walks nor trends correlate in them beyond twice the width of a mean. A multiple of a period
    repeats as well, but no better, so it is left out unless it does.

    Args:
        values: Of some series, NaN where missing, [time, targets] each.

    Returns:
        At most three periods in steps, ascending; none if nothing repeats.
    """
    columns = [each[-MOST_ROWS:, at] for each in values[:MOST_SERIES] for at in range(each.shape[1])]
    longest = min(LONGEST_PERIOD, max(len(column) for column in columns) // CYCLES_SEEN)
    curves = {width: _curve(columns, width, longest) for width in WIDTHS}
    seen = sum(int(np.isfinite(column).sum()) for column in columns)
    peaks = {lag for width, curve in curves.items() for lag in _peaks(curve, width, seen)}
    return tuple(sorted(_independent(peaks, curves)))


def _independent(peaks: set[int], curves: dict[int, Values]) -> list[int]:
    """Those that are not what must come with another one, the highest first."""

    def gain(lag: int, over: int) -> float:
        """By how much one's correlation is higher; only the same differences can be compared."""
        return max(float(curve[lag] - curve[over]) for width, curve in curves.items() if 2 * width < min(lag, over))

    height = {lag: max(float(curve[lag]) for width, curve in curves.items() if 2 * width < lag) for lag in peaks}
    found: list[int] = []
    for lag in sorted(peaks, key=lambda lag: -height[lag]):
        if any(_is_multiple(lag, period) or height[lag] < LEAST_SHARE * height[period] for period in found):
            continue
        found = [period for period in found if not _is_multiple(period, lag) or gain(period, lag) > LEAST_GAIN]
        if len(found) < MOST_PERIODS:
            found.append(lag)
    return found


def _curve(columns: Sequence[Values], width: int, longest: int) -> Values:
    """The mean autocorrelation at lags 0 to `longest`, 0 if there is none."""
    correlations = [each for column in columns if (each := _autocorrelation(column, width, longest)) is not None]
    return np.mean(correlations, axis=0) if correlations else np.zeros(longest + 1)


def _peaks(curve: Values, width: int, seen: int) -> list[int]:
    """The lags where it peaks clearly."""
    least = max(LEAST_CORRELATION, LEAST_DEVIATIONS * float(np.sqrt(2 * width / max(seen, 1))))
    near = max(1, width // 2)
    peaks = []
    for lag in range(2 * width + 1, len(curve) - 1):
        around = curve[max(2 * width, lag - near) : lag + near + 1]
        trough = max(0.0, curve[2 * width : lag].min())
        if curve[lag] == around.max() and curve[lag] > least + trough:
            peaks.append(lag)
    return peaks


def _autocorrelation(column: Values, width: int, longest: int) -> Values | None:
    """Of the differences at lags 0 to `longest`; None if they do not vary or are too few."""
    differences = _differences(column, width)
    seen = np.isfinite(differences)
    if seen.sum() < 2 * max(longest, 2) or len(differences) <= longest:
        return None
    # Wild values would hide everything else.
    low, high = np.quantile(differences[seen], [0.01, 0.99])
    centred = np.where(seen, np.clip(differences, low, high) - np.clip(differences[seen], low, high).mean(), 0.0)
    power = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
    correlation: Values = np.fft.irfft(power)[: longest + 1]
    noise = LEAST_VARIATION * float(np.abs(column[np.isfinite(column)]).max())
    return None if correlation[0] <= len(centred) * noise**2 else correlation / correlation[0]


def _differences(column: Values, width: int) -> Values:
    """Between each mean of so many steps and the one before it, NaN where fewer than half of them are known."""
    seen = np.isfinite(column)
    box = np.ones(width)
    if len(column) < 2 * width:
        return np.empty(0)
    counts = np.convolve(seen, box, "valid")
    # Sums of what is far from 0 would round.
    centre = float(np.median(column[seen])) if seen.any() else 0.0
    sums = np.convolve(np.where(seen, column - centre, 0.0), box, "valid")
    means = np.where(2 * counts > width, sums / np.maximum(counts, 1), np.nan)
    return means[width:] - means[:-width]


def _is_multiple(lag: int, period: int) -> bool:
    """Whether a period, not known to the step, may repeat after that lag."""
    times = round(lag / period)
    apart = abs(lag - times * period)
    return times >= 1 and apart <= (period // 4 if times == 1 else max(1, times // 2, period // 8))
