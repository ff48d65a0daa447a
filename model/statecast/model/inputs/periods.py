"""Find the periods of a session in its own window: the lags at which its values repeat."""

import numpy as np
from numpy.typing import NDArray

EARLY_STEPS, EARLY_STRIDE, STRIDE = 256, 16, 64
"""A session looks for its periods after every STRIDE steps, and more often in its EARLY_STEPS."""
LONGEST_SHARE = 0.6
"""The longest period, as a share of the steps in the window: more than half of the steps have a past period."""
LEAST_PAIRS = 6
# How high a period's score must be: this much, and so many times the score that noise has.
LEAST_SCORE, LEAST_DEVIATIONS = 0.1, 2.5
# How much higher the score of a longer period must be than of all shorter ones, and of a new one than of an old one.
LEAST_GAIN, HYSTERESIS = 0.1, 0.05
SMALLEST_RATIO = 1e-6
LOWEST = -10.0
# Multiples are those from the working week on; the first counts whose score is at least this share of the highest.
LEAST_MULTIPLE, MULTIPLES_SHARE = 5, 0.5
WEEK, WEEK_FAVOUR = 7, 0.1
OUTLYING_SHARE = 0.01
LEAST_VARIATION = 1e-9
# Values whose mean squared difference is smaller, in units of their spread, repeat exactly.
ROUNDING = 1e-10

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Periods = NDArray[np.int64]


def is_due(steps: Periods) -> Flags:
    """Return whether a session looks for its periods after so many observations, bool of the same shape."""
    due: Flags = (steps % np.where(steps < EARLY_STEPS, EARLY_STRIDE, STRIDE) == 0) & (steps > 0)
    return due


def find_periods(windows: Values, current: Periods) -> Periods:
    """Find the lags at which values repeat better than at any shorter lag, and one multiple of the longest of them.

    A lag's score compares the mean squared difference of values that far apart with its mean over similar lags: it is
    the negative logarithm of their ratio. So a random walk or a trend has no period, and a multiple of a period is none
    unless values repeat better after it. A week of days that drift does not; so the multiples of the longest period,
    which is usually the day, are also compared with each other.

    Args:
        windows: The last values of M series, NaN where missing, [M, W].
        current: Their current periods, [M, K]; a new period must be clearly better.

    Returns:
        At most K periods in steps, ascending, after as many zeros as are missing, [M, K].
    """
    apart, pairs = _squared_differences(windows)
    is_usable = pairs > 0
    kept = np.zeros(apart.shape)
    kept[np.arange(len(windows))[:, None], np.where(current < apart.shape[1], current, 0)] = HYSTERESIS
    kept[:, 0] = 0.0
    least = np.maximum(LEAST_SCORE, LEAST_DEVIATIONS / np.sqrt(np.maximum(pairs, 1.0)))
    heights = _heights(apart, is_usable, kept, least)
    before = np.maximum.accumulate(heights, axis=1)
    is_found = np.zeros(apart.shape, np.bool_)
    is_found[:, 1:] = heights[:, 1:] > np.maximum(before[:, :-1] + LEAST_GAIN, 0.0)
    longest = np.where(is_found, np.arange(apart.shape[1]), 0).max(axis=1)
    multiple = _multiple(longest, apart, is_usable, kept, least)
    is_found[np.arange(len(windows)), multiple] |= multiple > 0
    # Counted from the longest.
    place = np.cumsum(is_found[:, ::-1], axis=1)[:, ::-1]
    slots = current.shape[1]
    found = [(is_found & (place == slots - slot)).argmax(axis=1) for slot in range(slots)]
    return np.stack(found, axis=1)


def _heights(apart: Values, is_usable: Flags, kept: Values, least: Values) -> Values:
    """Return the scores of lags in steps that are peaks and high enough, otherwise minus infinity; all [M, L].

    Args:
        apart: The mean squared difference of values that many steps apart.
        is_usable: Whether there are enough values that far apart.
        kept: What is added to the score of periods that are favoured.
        least: The lowest score of a period.
    """
    steps = np.arange(apart.shape[1])
    total, number = np.cumsum(apart, axis=1), np.cumsum(is_usable, axis=1)
    # The mean over the lags from half of a lag to one and a half, as far as they are usable.
    low, high = np.maximum((steps + 1) // 2 - 1, 0), np.minimum(3 * steps // 2, len(steps) - 1)
    near = (total[:, high] - total[:, low]) / np.maximum(number[:, high] - number[:, low], 1)
    ratios = np.maximum(apart / np.where(near > 0, near, 1.0), SMALLEST_RATIO)
    scores = np.where(is_usable & (near > 0), kept - np.log(ratios), LOWEST)
    is_high = scores >= least
    is_high[:, :2] = is_high[:, -1:] = False
    is_high[:, 1:] &= (scores[:, 1:] > scores[:, :-1]) & (apart[:, 1:] < apart[:, :-1])
    is_high[:, :-1] &= scores[:, :-1] >= scores[:, 1:]
    return np.where(is_high, scores, -np.inf)


def _multiple(periods: Periods, apart: Values, is_usable: Flags, kept: Values, least: Values) -> Periods:
    """Return a multiple of each period with a high score among multiples, or 0, [M]; others: see `_heights`."""
    lags = apart.shape[1]
    times = np.arange(lags // 2 + 1)
    multiples = times * periods[:, None]
    is_there = (multiples > 0) & (multiples < lags)
    at = np.where(is_there, multiples, 0)

    def of_multiples(each: Values) -> Values:
        return np.take_along_axis(each, at, axis=1)

    favour = 2 * of_multiples(kept) + np.where(times == WEEK, WEEK_FAVOUR, 0.0)
    usable = np.take_along_axis(is_usable, at, axis=1) & is_there
    heights = _heights(of_multiples(apart), usable, favour, of_multiples(least))
    heights[:, :LEAST_MULTIPLE] = -np.inf
    highest = heights.max(axis=1, keepdims=True)
    first = (heights >= MULTIPLES_SHARE * highest).argmax(axis=1)
    return np.where(highest[:, 0] > 0, first * periods, 0)


def _squared_differences(windows: Values) -> tuple[Values, Values]:
    """Return the mean squared difference of scaled values at each lag from 0, and their number, [M, L].

    Both are 0 at lags that are too long, or have too few values that far apart.
    """
    length = windows.shape[1]
    scaled, seen = _scaled(windows)
    lags = int(LONGEST_SHARE * length) + 2
    size = 1 << (length + lags - 1).bit_length()
    mask = seen.astype(np.float64)
    spectrum, of_mask, of_squares = (np.fft.rfft(each, size) for each in (scaled, mask, scaled * scaled))
    pairs = np.rint(np.fft.irfft(of_mask.real**2 + of_mask.imag**2, size)[:, :lags])
    power = (of_squares * of_mask.conj()).real - spectrum.real**2 - spectrum.imag**2
    sums = np.maximum(2.0 * np.fft.irfft(power, size)[:, :lags], 0.0)
    steps, lag = length - seen.argmax(axis=1)[:, None], np.arange(lags)
    is_usable = (lag > 0) & (lag <= LONGEST_SHARE * steps) & (pairs >= LEAST_PAIRS)
    apart = np.where(is_usable, sums / np.maximum(pairs, 1.0), 0.0)
    return np.where(apart > ROUNDING, apart, 0.0), np.where(is_usable, pairs, 0.0)


def _scaled(windows: Values) -> tuple[Values, NDArray[np.bool_]]:
    """Return values around 0 without their units and extremes, 0 where missing, and whether each was seen, [M, W].

    Series that do not vary have no seen values.
    """
    seen = ~np.isnan(windows)
    count = seen.sum(axis=1)
    ordered = np.sort(windows, axis=1)
    outliers = np.maximum(1, np.rint(OUTLYING_SHARE * count).astype(np.int64))
    rows = np.arange(len(windows))
    low, middle, high = (
        ordered[rows, np.clip(at, 0, windows.shape[1] - 1)] for at in (outliers, count // 2, count - 1 - outliers)
    )
    spread = high - low
    varies = (count > LEAST_PAIRS) & (spread > LEAST_VARIATION * np.abs(middle))
    seen &= varies[:, None]
    limited = np.clip(windows, (low - spread)[:, None], (high + spread)[:, None])
    scaled = (limited - middle[:, None]) / np.where(varies, spread, 1.0)[:, None]
    return np.where(seen, scaled, 0.0), seen
