"""How intervals adapt, and where a value lies in the forecast before it; as in `intervals`, for one observation."""

import math

import numpy as np

from ..forecaster.head import FLOAT32_RESOLUTION
from ..intervals.calibration import BLOCK, FARTHEST, ROUNDING
from ..intervals.pit import MOST_WIDTHS, NARROWEST, ROUNDING_SHARE
from .arguments import AHEAD, SLOTS, START, STRIDE
from .compiling import kernel, part
from .functions import exp32
from .head import keep_within
from .statistics import units_of

_F = np.float32


@kernel
def widen(rows, sizes, tables, steps, quantiles, into):
    """Write forecasts with their distances from the median multiplied by the sessions' factors.

    Args:
        rows: The sessions' rows, float64.
        steps: The steps ahead, from 1, int64 [N, S].
        quantiles: As the model emits them, float64 [N, S, D, Q]; are changed.
        into: Gets them, ascending and within reach, float32 [N, S, Q, D].
    """
    levels, checks, median, ahead = sizes.levels, sizes.checks, sizes.median, steps.shape[1]
    places, factors, by_row = tables.places, np.empty(levels), quantiles.reshape(-1, levels)
    for n in range(rows.shape[0]):
        for target in range(sizes.targets):
            start = sizes.at_factors + target * checks * levels
            for step in range(ahead):
                at = (n * ahead + step) * sizes.targets + target
                if sizes.adapts:
                    place = places[steps[n, step] - 1]
                    below = int(place)
                    share, above = place - below, min(below + 1, checks - 1)
                    low, high = start + below * levels, start + above * levels
                    middle = by_row[at, median]
                    for level in range(levels):
                        factor = rows[n, low + level] + share * (rows[n, high + level] - rows[n, low + level])
                        factors[level] = exp32(_F(factor))
                    for level in range(levels):
                        by_row[at, level] = middle + (by_row[at, level] - middle) * factors[level]
                    sort(by_row, at)
                    keep_within(rows, n, sizes, target, by_row, at)
                for level in range(levels):
                    into[n, step, level, target] = _F(by_row[at, level])


@part
def sort(values, at):
    """Sort values[at], a few that are nearly in order, by insertion; NaN only among NaN."""
    for level in range(1, values.shape[1]):
        value, place = values[at, level], level
        while place > 0 and values[at, place - 1] > value:
            values[at, place] = values[at, place - 1]
            place -= 1
        values[at, place] = value


@part
def tell_apart(quantiles, median):
    """Set quantiles that differ from the median only by rounding to the median."""
    middle = quantiles[median]
    for level in range(quantiles.shape[0]):
        if abs(quantiles[level] - middle) <= ROUNDING * abs(middle):
            quantiles[level] = middle


@part
def judge(before, after, whole, sizes, tables, value, target, forecasts, at):
    """Judge forecasts by an observation: move the factors of a session's target, and take the outcome's forecasts.

    Args:
        before, after: The session's row before and after, float64.
        whole: The row before, as int64.
        value: The observation.
        forecasts: Has the forecast before it as the model emits it in row `at`, [., Q]; is changed into it as issued.
    """
    levels, checks, median, standing = sizes.levels, sizes.checks, sizes.median, forecasts[at]
    taken = whole[sizes.at_step]
    own = target * checks * levels
    factors, misses = sizes.at_factors + own, sizes.at_misses + own
    size = sizes.waiting * levels
    waiting = sizes.at_waiting + target * size
    after[waiting : waiting + size] = before[waiting : waiting + size]
    ends = (taken + 1) % BLOCK == 0
    sides, tails, sharpness, starts = tables.sides, tables.tails, tables.sharpness, tables.starts
    for check in range(checks):
        place, due, is_due = check * levels, standing, check == 0
        if check:
            issued = taken + 1 - tables.checked[check, AHEAD]
            if issued > 0 and issued % tables.checked[check, STRIDE] == 0:
                slot = waiting + slot_of(tables.checked, check, issued) * levels
                due, is_due = before[slot : slot + levels], True
                after[slot : slot + levels] = 0.0
        else:
            tell_apart(due, median)
        total = 0.0
        for level in range(levels):
            total_of_level = before[misses + place + level]
            if is_due:
                factor = before[factors + place + level] if check == 0 else 0.0
                total_of_level += _miss(
                    due[median], due[level], sides[level], tails[level], sharpness[level], starts[level], value, factor
                )
            after[misses + place + level] = total_of_level
            total += total_of_level
        mean = total / levels
        for level in range(levels):
            missed, factor = misses + place + level, before[factors + place + level]
            if ends:
                factor += tables.own[check] * after[missed] + tables.common[check, level] * mean
                factor = min(max(factor, tables.least[check]), tables.largest[check])
                after[missed] = 0.0
            after[factors + place + level] = factor
    middle = standing[median]
    for level in range(levels):
        standing[level] = middle + (standing[level] - middle) * math.exp(before[factors + level])
    sort(forecasts, at)


@part
def slot_of(checked, check, issued):
    """Return where a forecast waits for its outcome, given how many observations its session had taken."""
    return checked[check, START] + issued // checked[check, STRIDE] % checked[check, SLOTS]


@part
def _miss(middle, quantile, side, tail, sharpness, start, value, factor):
    """Return by how much an outcome counts as beyond a quantile, less how often it should; 0 if it is not judged."""
    distance = (quantile - middle) * side
    if not distance > 0 or np.isnan(value):
        return 0.0
    reach = min(max((value - middle) * side / distance * sharpness, -FARTHEST), FARTHEST)
    return min(max(start + reach * math.exp(-factor), 0.0), 1.0) - tail


@part
def wait(after, sizes, tables, taken, check, target, quantiles):
    """Keep a forecast as issued until its outcome comes.

    Args:
        after: The session's row, float64; is changed.
        taken: How many observations the session has taken.
        check: The position of the forecast's step among the checked ones.
        quantiles: The forecast as the model emits it, [Q]; is changed.
    """
    levels, median = sizes.levels, sizes.median
    factors = sizes.at_factors + (target * sizes.checks + check) * levels
    into = sizes.at_waiting + (target * sizes.waiting + slot_of(tables.checked, check, taken)) * levels
    tell_apart(quantiles, median)
    middle = quantiles[median]
    for level in range(levels):
        after[into + level] = middle + (quantiles[level] - middle) * math.exp(after[factors + level])


@part
def share_below(rows, n, sizes, tables, value, target, forecasts, at):
    """Return the probability of values below a value, plus half its own; see `pit.share_below`.

    Args:
        rows: The sessions before the value, float64; `n` is the value's.
        forecasts: Has the forecast before it as issued in row `at`, ascending, [., Q]; is limited to what is in reach.
    """
    keep_within(rows, n, sizes, target, forecasts, at)
    levels, last, quantiles = tables.levels, sizes.levels - 1, forecasts[at]
    if np.isnan(value) or np.isnan(quantiles[0]):
        return np.nan
    inside, equal, first = 0.0, 0, 0
    for level in range(last + 1):
        if quantiles[level] == value:
            first = first if equal else level
            equal += 1
    for level in range(last):
        past = (value - quantiles[level]) / max(quantiles[level + 1] - quantiles[level], NARROWEST)
        if past > 0:
            inside = max(inside, levels[level] + (levels[level + 1] - levels[level]) * min(past, 1.0))
    below = (value - quantiles[0]) / max(quantiles[1] - quantiles[0], NARROWEST)
    beyond = (value - quantiles[last - 1]) / max(quantiles[last] - quantiles[last - 1], NARROWEST) - 1
    if beyond > 0:
        fall = math.log((1 - levels[last]) / (1 - levels[last - 1]))
        share = 1 - (1 - levels[last]) * math.exp(fall * min(beyond, MOST_WIDTHS))
    else:
        fall = math.log(levels[1] / levels[0])
        share = max(levels[0] * math.exp(fall * min(max(below, -MOST_WIDTHS), 0.0)), inside)
    _, scale = units_of(rows[n], sizes, tables.error_weights, tables.error_decay, target)
    if abs(value - quantiles[sizes.median]) <= ROUNDING_SHARE * scale + FLOAT32_RESOLUTION * abs(value):
        share = 0.5
    if equal > 1:
        start = levels[first] if first > 0 else 0.0
        stop = levels[first + equal - 1] if first + equal - 1 < last else 1.0
        share = (start + stop) / 2
    return share


@kernel
def wait_all(rows, sizes, tables, taken, due, checks, quantiles):
    """Keep forecasts as issued until their outcomes come.

    Args:
        rows: The sessions' rows, float64; are changed.
        taken: How many observations each session has taken, int64 [N].
        due, checks: The sessions of M forecasts, and the positions of their steps among the checked ones, int64 [M].
        quantiles: The forecasts as the model emits them, float64 [M, 1, D, Q]; are changed.
    """
    for at in range(due.shape[0]):
        for target in range(sizes.targets):
            wait(rows[due[at]], sizes, tables, taken[due[at]], checks[at], target, quantiles[at, 0, target])
