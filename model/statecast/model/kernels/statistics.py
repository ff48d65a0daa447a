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
from ..inputs.known_inputs import SATURDAY, WEEKDAY_OF_1970
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
def read_periods(whole, sizes, lags, target, periods):
    """Write the periods of a target, 0 for none, int64 [K]; whole: a session's row, int64, and `lags`: see `Tables`."""
    for slot in range(sizes.slots):
        periods[slot] = whole[sizes.at_periods + target * sizes.slots + slot] if sizes.finds else lags[slot]


@part
def is_alike(weekday, back, step_ns):
    """Return whether the day so many steps before a day is of the same kind, working day or weekend."""
    return ((weekday - back * step_ns // DAY_NS) % 7 >= SATURDAY) == (weekday >= SATURDAY)


@part
def look_up(row, periods, sizes, ahead, weekday, target, values, known, step, first):
    """Summarise the past periods of a step ahead.

    Args:
        row: A session, float64; `periods`: its periods, int64 [K].
        ahead: The step ahead, from 0.
        weekday: The day of the step; -1 if days are not told apart.
        values, known: Get the newest period observed, from `first` in row `step`, then the means, and whether there is
            one, float64 and bool [S, F].
    """
    # The place of the step itself, from which places are counted back.
    here, targets, slots = sizes.at_window + (sizes.window + ahead) * sizes.targets + target, sizes.targets, sizes.slots
    farthest = sizes.window + ahead
    for slot in range(slots):
        lag = periods[slot]
        total, newest, count, preferred = 0.0, 0.0, 0, False
        if lag > 0:
            last, tells_days = ahead // lag * lag, weekday >= 0 and lag * sizes.step_ns % DAY_NS == 0
            if tells_days:
                for times in range(1, sizes.multiples + 1):
                    back = last + lag * times
                    if back <= farthest and is_alike(weekday, back, sizes.step_ns):
                        if not np.isnan(row[here - back * targets]):
                            preferred = True
            for times in range(1, sizes.multiples + 1):
                back = last + lag * times
                if back > farthest or (preferred and not is_alike(weekday, back, sizes.step_ns)):
                    continue
                value = row[here - back * targets]
                if not np.isnan(value):
                    if count == 0:
                        newest = value
                    total += value
                    count += 1
        values[step, first + slot], values[step, first + slots + slot] = newest, total / max(count, 1)
        known[step, first + slot] = known[step, first + slots + slot] = count > 0


@part
def cross(row, periods, sizes, ahead, target, values, known, step, first):
    """Add the deviation of the last shorter period to the mean of the longer one, after `look_up`; see `Seasonal`."""
    here, targets, slots = sizes.at_window + (sizes.window + ahead) * sizes.targets + target, sizes.targets, sizes.slots
    into = first + (2 + sizes.carries) * slots
    for slot in range(slots - 1):
        short, long, mean = periods[slot], periods[slot + 1], first + slots + slot + 1
        values[step, into + slot], known[step, into + slot] = 0.0, False
        if short > 0 and known[step, mean]:
            back = ahead // short * short + short
            value, total, count = row[here - back * targets], 0.0, 0
            for times in range(1, sizes.multiples + 1):
                before = back + long * times
                if before <= sizes.window + ahead:
                    other = row[here - before * targets]
                    if not np.isnan(other):
                        total += other
                        count += 1
            if count > 0 and not np.isnan(value):
                values[step, into + slot] = values[step, mean] + (value - total / count)
                known[step, into + slot] = True


@part
def forecast_naively(row, periods, sizes, steps, weekdays, target, levels, values, known):
    """Compute the forecasts of all naive forecasters for some steps ahead.

    Args:
        row: A session, float64; `periods`: its periods, int64 [K].
        steps: The steps ahead, from 1, int64 [S]; `weekdays`: their days, -1 if these are not told apart, int64 [S].
        levels: What does not depend on the step, from `levels_of`.
        values, known: Get the forecasts, 0 without one, and whether there is one, float64 and bool [S, F].
    """
    slots, means, count = sizes.slots, sizes.means, row[sizes.at_count + target]
    first = 2 * means
    counts = sizes.at_error_counts + target * sizes.forecasters + first + slots
    for step in range(steps.shape[0]):
        for level in range(1 + means):
            values[step, level], known[step, level] = levels[level], count > 0
        for trend in range(means - 1):
            start, slope = levels[1 + means + 2 * trend], levels[2 + means + 2 * trend]
            values[step, 1 + means + trend], known[step, 1 + means + trend] = start + slope * steps[step], count > 1
        if slots:
            look_up(row, periods, sizes, steps[step] - 1, weekdays[step], target, values, known, step, first)
            cross(row, periods, sizes, steps[step] - 1, target, values, known, step, first)
        for slot in range(slots):
            seen, mean = known[step, first + slot], values[step, first + slots + slot]
            is_carried = seen and row[counts + slot] > 0
            for carry in range(sizes.carries):
                at = first + (2 + carry) * slots + slot
                known[step, at] = is_carried
                values[step, at] = mean + levels[3 * means - 1 + slot * sizes.carries + carry]


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
    counts = sizes.at_error_counts + target * sizes.forecasters + 2 * means + sizes.slots
    residuals, weights, decays = (
        sizes.at_carries + target * sizes.slots * carries,
        tables.carry_weights,
        tables.carry_decay,
    )
    for slot in range(sizes.slots):
        for carry in range(carries):
            at = slot * carries + carry
            levels[3 * means - 1 + at] = row[residuals + at] / weight_of(row[counts + slot], weights, decays, carry)


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
def observe(before, whole, after, sizes, tables, values, one, weekday, periods, levels, said, known):
    """Write a session's window and statistics after an observation, but for its periods.

    Args:
        before, whole: The session's row before, as float64 and int64; after: that after, float64.
        values: The observation, NaN where missing, [D].
        one, weekday: One step ahead, and its day or -1, int64 [1].
        periods: Gets the periods before, int64 [D, K].
        levels, said, known: Scratch, see `forecast_naively`.
    """
    targets, kept = sizes.targets, (sizes.window - 1) * sizes.targets
    start = sizes.at_window
    after[start : start + kept] = before[start + targets : start + targets + kept]
    for target in range(targets):
        value, own = values[target], periods[target]
        after[start + kept + target] = value
        read_periods(whole, sizes, tables.lags, target, own)
        levels_of(before, sizes, tables, target, levels)
        forecast_naively(before, own, sizes, one, weekday, target, levels, said, known)
        _take(before, after, sizes, tables.mean_weights, tables.mean_decay, value, target)
        if sizes.slots:
            first = 2 * sizes.means + sizes.slots
            means, seen = said[0, first : first + sizes.slots], known[0, first : first + sizes.slots]
            _carry(before, after, sizes, tables.carry_kept, value, target, means, seen)
        _judge(before, after, sizes, tables.error_kept, value, target, said[0], known[0])


@part
def change_periods(after, whole, sizes, target, old, new):
    """Give a target other periods: what its old slots know of the same periods moves, all else of periods begins at 0.

    Args:
        after, whole: The session's row, as float64 and int64; is changed.
        old, new: The periods, int64 [K].
    """
    slots, carries, memories, first = sizes.slots, sizes.carries, sizes.memories, 2 * sizes.means
    is_same = True
    for slot in range(slots):
        is_same = is_same and old[slot] == new[slot]
        whole[sizes.at_periods + target * slots + slot] = new[slot]
    if is_same:
        return
    count, groups = sizes.forecasters - first, 2 + carries
    counts = sizes.at_error_counts + target * sizes.forecasters + first
    errors, residuals = (
        sizes.at_errors + (target * sizes.forecasters + first) * memories,
        (sizes.at_carries + target * slots * carries),
    )
    # Counts, errors and residuals as they were.
    kept = np.empty(count * (1 + memories) + slots * carries)
    for at in range(count):
        kept[at] = after[counts + at]
    for at in range(count * memories):
        kept[count + at] = after[errors + at]
    for at in range(slots * carries):
        kept[count * (1 + memories) + at] = after[residuals + at]
    for place in range(count):
        group, slot = place // slots, place % slots
        source = -1
        for other in range(slots):
            is_it = new[slot] > 0 and old[other] == new[slot]
            if group == groups:
                is_it = is_it and other + 1 < slots and new[slot + 1] > 0 and old[other + 1] == new[slot + 1]
            if is_it:
                source = group * slots + other
        after[counts + place] = kept[source] if source >= 0 else 0.0
        for memory in range(memories):
            error = kept[count + source * memories + memory] if source >= 0 else 0.0
            after[errors + place * memories + memory] = error
        if group == 0:
            for carry in range(carries):
                residual = kept[count * (1 + memories) + source * carries + carry] if source >= 0 else 0.0
                after[residuals + slot * carries + carry] = residual


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
    at = sizes.at_carries + target * sizes.slots * sizes.carries
    for slot in range(sizes.slots):
        judged = seen[slot] and not np.isnan(value)
        for carry in range(sizes.carries):
            total = before[at + slot * sizes.carries + carry]
            after[at + slot * sizes.carries + carry] = total * kept[carry] + value - means[slot] if judged else total
