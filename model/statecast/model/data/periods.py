"""Find the periods of series without times by their autocorrelation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LONGEST_PERIOD = 1000
MOST_ROWS = 20_000
MOST_SERIES = 50
MOST_PERIODS = 3
CYCLES_SEEN = 4
# Neighbouring means over so many steps are compared, since noise in single steps hides long periods.
WIDTHS = (1, 4, 16)
LEAST_CORRELATION = 0.2
LEAST_DEVIATIONS = 4.0
# A multiple is a separate period only if its correlation exceeds that of its divisor by this.
LEAST_GAIN = 0.05
# A divisor's correlation must be at least this share of that of its multiple.
LEAST_SHARE = 0.5
# Differences that vary by less than this share of the values are rounding errors.
LEAST_VARIATION = 1e-9
Values = NDArray[np.float64]


def find_periods(values: Sequence[Values]) -> tuple[int, ...]:
    """Find peaks in the mean autocorrelation of differences between neighbouring means.

    In these differences, noise, random walks and trends do not correlate beyond twice the width of a mean. A multiple
    of a period counts only if it correlates more strongly than the period.

    Args:
        values: The values of each series, NaN where missing, [time, targets] each.

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
    """Return the peaks that no other period implies, the highest first."""

    def gain(lag: int, over: int) -> float:
        """Return how much higher the correlation at a lag is than at another, in differences that both have."""
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
    """Return the mean autocorrelation at lags 0 to `longest`; zeros if no column has one."""
    correlations = [each for column in columns if (each := _autocorrelation(column, width, longest)) is not None]
    return np.mean(correlations, axis=0) if correlations else np.zeros(longest + 1)


def _peaks(curve: Values, width: int, seen: int) -> list[int]:
    """Return the lags at which the curve has clear peaks."""
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
    """Return the autocorrelation of differences at lags 0 to `longest`; None if they are constant or too few."""
    differences = _differences(column, width)
    seen = np.isfinite(differences)
    if seen.sum() < 2 * max(longest, 2) or len(differences) <= longest:
        return None
    # Outliers would hide all periods.
    low, high = np.quantile(differences[seen], [0.01, 0.99])
    centred = np.where(seen, np.clip(differences, low, high) - np.clip(differences[seen], low, high).mean(), 0.0)
    power = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
    correlation: Values = np.fft.irfft(power)[: longest + 1]
    noise = LEAST_VARIATION * float(np.abs(column[np.isfinite(column)]).max())
    return None if correlation[0] <= len(centred) * noise**2 else correlation / correlation[0]


def _differences(column: Values, width: int) -> Values:
    """Return differences between neighbouring means of `width` steps, NaN if at most half of the steps are known."""
    seen = np.isfinite(column)
    box = np.ones(width)
    if len(column) < 2 * width:
        return np.empty(0)
    counts = np.convolve(seen, box, "valid")
    # Sums of values far from 0 would lose precision.
    centre = float(np.median(column[seen])) if seen.any() else 0.0
    sums = np.convolve(np.where(seen, column - centre, 0.0), box, "valid")
    means = np.where(2 * counts > width, sums / np.maximum(counts, 1), np.nan)
    return means[width:] - means[:-width]


def _is_multiple(lag: int, period: int) -> bool:
    """Return whether a lag may be a multiple of a period, which is known only approximately."""
    times = round(lag / period)
    apart = abs(lag - times * period)
    return times >= 1 and apart <= (period // 4 if times == 1 else max(1, times // 2, period // 8))
