"""One session's statistics and naive forecasters, as in `inputs.naive` and `inputs.seasonal`, for one observation."""

import math

import numpy as np

from ..inputs.features import (
    ERROR_SHARE,
    JUDGED_HALF_LIFE,
    LARGEST_RATIO,
    LEVEL_SHARE,
    PRIOR_SHARE,
    TINY,
)
from ..inputs.known_inputs import WEEKDAY_OF_1970
from ..zones import DAY_NS
from .arguments import MOST_COUNTS
from .compiling import part

_F = np.float32


@part
def weekday_of(time):
    """Return the day of the week, 0 for Monday."""
    return (time // DAY_NS + WEEKDAY_OF_1970) % 7


@part
def weight_of(count, weights, decays, which):
    """Return the sum of the weights of so many steps: looked up, or computed if there are too many."""
    if count < MOST_COUNTS:
        return weights[which, max(int(count), 0)]
    return math.expm1(count * decays[which]) / math.expm1(decays[which])


@part
def age_of(count, ages, decays, which):
    """Return the mean age of so many steps."""
    if count < MOST_COUNTS:
        return ages[which, max(int(count), 0)]
    kept = math.exp(decays[which])
    return kept / (1 - kept) + count * math.exp(count * decays[which]) / math.expm1(count * decays[which])


@part
def look_up(row, sizes, offsets, reachable, alike, ahead, weekday, reach, target, values, known, step, first):
    """Summarise the past periods of a step ahead.

    Args:
        row: A session, float64.
        offsets, reachable, alike: See `Tables`.
        ahead: The step ahead, from 0.
        weekday: The day of the step; -1 if days are not told apart.
        reach: How many periods to look at.
        values, known: Get the newest period observed, from `first` in row `step`, then the means, and whether there is
            one, float64 and bool [S, F].
    """
    begin, lags = sizes.at_window + sizes.window * sizes.targets + target, sizes.lags
    for lag in range(lags):
        preferred = False
        if weekday >= 0:
            for period in range(reach):
                if reachable[ahead, lag, period] and alike[weekday, ahead, lag, period]:
                    if not np.isnan(row[begin + offsets[ahead, lag, period] * sizes.targets]):
                        preferred = True
        total, newest, count = 0.0, 0.0, 0
        for period in range(reach):
            if not reachable[ahead, lag, period] or (preferred and not alike[weekday, ahead, lag, period]):
                continue
            value = row[begin + offsets[ahead, lag, period] * sizes.targets]
            if not np.isnan(value):
                if count == 0:
                    newest = value
                total += value
                count += 1
        values[step, first + lag], values[step, first + lags + lag] = newest, total / max(count, 1)
        known[step, first + lag] = known[step, first + lags + lag] = count > 0


@part
def forecast_naively(row, sizes, offsets, reachable, alike, steps, weekdays, target, levels, values, known):
    """Compute the forecasts of all naive forecasters for some steps ahead.

    Args:
        row: A session, float64.
        offsets, reachable, alike: See `Tables`.
        steps: The steps ahead, from 1, int64 [S]; `weekdays`: their days, -1 if these are not told apart, int64 [S].
        levels: What does not depend on the step, from `levels_of`.
        values, known: Get the forecasts, 0 without one, and whether there is one, float64 and bool [S, F].
    """
    lags, means, count = sizes.lags, sizes.means, row[sizes.at_count + target]
    first = 2 * means
    counts = sizes.at_error_counts + target * sizes.forecasters + first + lags
    for step in range(steps.shape[0]):
        for level in range(1 + means):
            values[step, level], known[step, level] = levels[level], count > 0
        for trend in range(means - 1):
            start, slope = levels[1 + means + 2 * trend], levels[2 + means + 2 * trend]
            values[step, 1 + means + trend], known[step, 1 + means + trend] = start + slope * steps[step], count > 1
        if lags:
            look_up(
                row, sizes, offsets, reachable, alike, steps[step] - 1, weekdays[step], sizes.multiples, target, values,
                known, step, first,
            )  # fmt: skip
        for lag in range(lags):
            seen, mean = known[step, first + lag], values[step, first + lags + lag]
            is_carried = seen and row[counts + lag] > 0
            for carry in range(sizes.carries):
                at = first + (2 + carry) * lags + lag
                known[step, at] = is_carried
                values[step, at] = mean + levels[3 * means - 1 + lag * sizes.carries + carry]


@part
def levels_of(row, sizes, tables, target, levels):
    """Compute what the naive forecasters start from.

    Args:
        row: A session, float64.
        levels: Gets the last value, the means, start and slope of each trend, and the smoothed residuals, float64
            [3 M - 1 + K R].
    """
    means, carries = sizes.means, sizes.carries
    last, count = row[sizes.at_last + target], row[sizes.at_count + target]
    levels[0] = 0.0 if np.isnan(last) else last
    at = sizes.at_means + target * means
    for mean in range(means):
        levels[1 + mean] = row[at + mean]
    steps, ages, decays = max(count, 2.0), tables.mean_ages, tables.mean_decay
    for trend in range(means - 1):
        young, old = age_of(steps, ages, decays, trend), age_of(steps, ages, decays, trend + 1)
        slope = (row[at + trend] - row[at + trend + 1]) / (old - young)
        levels[1 + means + 2 * trend], levels[2 + means + 2 * trend] = row[at + trend] + slope * young, slope
    counts = sizes.at_error_counts + target * sizes.forecasters + 2 * means + sizes.lags
    residuals, weights, decays = (
        sizes.at_carries + target * sizes.lags * carries,
        tables.carry_weights,
        tables.carry_decay,
    )
    for lag in range(sizes.lags):
        for carry in range(carries):
            at = lag * carries + carry
            levels[3 * means - 1 + at] = row[residuals + at] / weight_of(row[counts + lag], weights, decays, carry)


@part
def units_of(row, sizes, weights, decays, target):
    """Return centre and scale of a session's values: its slowest mean and that mean's absolute error, see `features`.

    `weights` and `decays` are those of errors, see `Tables`.
    """
    means, last = sizes.means, sizes.memories - 1
    centre = row[sizes.at_means + target * means + means - 1]
    slowest = target * sizes.forecasters + means
    count = row[sizes.at_error_counts + slowest]
    deviation = row[sizes.at_errors + slowest * sizes.memories + last] / weight_of(count, weights, decays, last)
    return centre, deviation + abs(centre) * (PRIOR_SHARE * 2.0**-count + LEVEL_SHARE) + TINY


@part
def error_ratio(row, sizes, weights, decays, place, memory, scale):
    """Return a mean absolute error in a memory, in units of the scale; near 1 if there were few judgements.

    `place` is the position of target and forecaster among all; for the others see `units_of`.
    """
    count = row[sizes.at_error_counts + place]
    error = row[sizes.at_errors + place * sizes.memories + memory] / weight_of(count, weights, decays, memory)
    ratio = min(error / scale, LARGEST_RATIO)
    if count < 256.0:
        assumed = 2.0 ** (-count / JUDGED_HALF_LIFE)
        ratio = ratio * (1 - assumed) + assumed
    return _F(ratio + ERROR_SHARE)


@part
def observe(before, after, sizes, tables, values, one, weekday, levels, said, known):
    """Write a session's window and statistics after an observation.

    Args:
        before, after: The session's row before and after, float64.
        values: The observation, NaN where missing, [D].
        one, weekday: One step ahead, and its day or -1, int64 [1].
        levels, said, known: Scratch, see `forecast_naively`.
    """
    targets, kept = sizes.targets, (sizes.window - 1) * sizes.targets
    start = sizes.at_window
    after[start : start + kept] = before[start + targets : start + targets + kept]
    for target in range(targets):
        value = values[target]
        after[start + kept + target] = value
        levels_of(before, sizes, tables, target, levels)
        forecast_naively(
            before, sizes, tables.offsets, tables.reachable, tables.alike, one, weekday, target, levels, said, known
        )
        _take(before, after, sizes, tables.mean_weights, tables.mean_decay, value, target)
        if sizes.lags:
            first = 2 * sizes.means + sizes.lags
            means, seen = said[0, first : first + sizes.lags], known[0, first : first + sizes.lags]
            _carry(before, after, sizes, tables.carry_kept, value, target, means, seen)
        _judge(before, after, sizes, tables.error_kept, value, target, said[0], known[0])


@part
def _take(before, after, sizes, weights, decays, value, target):
    """Update last value, count, extremes and means."""
    is_seen, means = not np.isnan(value), sizes.means
    count = before[sizes.at_count + target]
    number = value if is_seen else 0.0
    after[sizes.at_last + target] = value if is_seen else before[sizes.at_last + target]
    after[sizes.at_count + target] = count + is_seen
    after[sizes.at_lowest + target] = min(before[sizes.at_lowest + target], number)
    after[sizes.at_highest + target] = max(before[sizes.at_highest + target], number)
    at = sizes.at_means + target * means
    for mean in range(means):
        start = before[at + mean] if count > 0 else number
        if is_seen:
            start += (value - start) / weight_of(count + 1, weights, decays, mean)
        after[at + mean] = start


@part
def _judge(before, after, sizes, kept, value, target, said, known):
    """Update the errors of the naive forecasters, whose forecasts of the value are `said`."""
    counts = sizes.at_error_counts + target * sizes.forecasters
    errors = sizes.at_errors + target * sizes.forecasters * sizes.memories
    is_seen = not np.isnan(value)
    for forecaster in range(sizes.forecasters):
        judged, at = is_seen and known[forecaster], errors + forecaster * sizes.memories
        after[counts + forecaster] = before[counts + forecaster] + judged
        for memory in range(sizes.memories):
            error = before[at + memory]
            after[at + memory] = error * kept[memory] + abs(value - said[forecaster]) if judged else error


@part
def _carry(before, after, sizes, kept, value, target, means, seen):
    """Update the smoothed residuals of the seasonal means."""
    at = sizes.at_carries + target * sizes.lags * sizes.carries
    for lag in range(sizes.lags):
        judged = seen[lag] and not np.isnan(value)
        for carry in range(sizes.carries):
            total = before[at + lag * sizes.carries + carry]
            after[at + lag * sizes.carries + carry] = total * kept[carry] + value - means[lag] if judged else total
