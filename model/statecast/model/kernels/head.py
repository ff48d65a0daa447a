"""The quantile head in stages, between which matrix products are due; as in `forecaster.head`.

N sessions forecast S steps each. R stands for N x S x D rows, one for each session, step and target.
"""

import math

import numpy as np

from ..forecaster.head import (
    FLOAT32_RESOLUTION,
    LARGEST_FLOAT32,
    LARGEST_LOG_TRUST,
    LARGEST_LOG_WIDTH,
    LARGEST_SHIFT,
    LEAST_LOG_WEIGHT,
    NARROWEST_SHARE,
    NEGLIGIBLE,
    SMALLEST_UNIT,
)
from .compiling import kernel, part
from .features import compressed, write_known, write_standing, write_static
from .functions import exp32
from .statistics import forecast_naively, levels_of, read_periods, units_of, weekday_of

_F = np.float32
_LEAST_WEIGHT, _LARGEST_SHIFT, _LARGEST_WIDTH = _F(LEAST_LOG_WEIGHT), _F(LARGEST_SHIFT), _F(LARGEST_LOG_WIDTH)
_LARGEST_TRUST, _NO_WEIGHT, _LOWEST = _F(LARGEST_LOG_TRUST), _F(-1e9), _F(-3e38)
_NEGLIGIBLE, _NOTHING = _F(NEGLIGIBLE), _F(0.0)


@kernel
def describe(rows, floats, sizes, tables, weights, categories, output, standing, units, errors, powers):
    """Write what a forecast needs of sessions, whatever the step.

    Args:
        rows, floats: The sessions' rows, as float64 and float32.
        categories: Their categories, int64 [N, S].
        output: Gets the recurrent layers' output, float32 [N, H].
        standing: Gets the features of sessions and targets, then the embeddings, float32 [N D, X].
        units: Gets centre and scale, float64 [N D, 2].
        errors: Gets the mean logarithm of each forecaster's error, float32 [N D, F]; `powers` its exponential, float64.
    """
    weights_of_errors, decays, whole = tables.error_weights, tables.error_decay, rows.view(np.int64)
    top, features = sizes.at_hidden + (sizes.layers - 1) * sizes.hidden, standing.shape[1] - sizes.static
    for n in range(rows.shape[0]):
        output[n] = floats[n, top : top + sizes.hidden]
        for target in range(sizes.targets):
            at = n * sizes.targets + target
            centre, scale = units_of(rows[n], sizes, weights_of_errors, decays, target)
            units[at, 0], units[at, 1] = centre, scale
            write_standing(
                rows[n], whole[n], sizes, weights_of_errors, decays, target, centre, scale, standing[at], errors[at]
            )
            for forecaster in range(sizes.forecasters):
                powers[at, forecaster] = math.exp(errors[at, forecaster])
            if sizes.static:
                write_static(tables, weights, categories[n], standing[at, features:])


@kernel
def propose(rows, sizes, tables, steps, times, units, offsets, known, ahead):
    """Write the forecasts of the naive forecasters.

    Args:
        rows: The sessions' rows, float64.
        steps: The steps ahead, from 1, int64 [N, S].
        times: Their times, int64 [N, S]; any numbers if days are not told apart.
        units: From `describe`.
        offsets: Gets the distance of each forecast from the centre, float64 [R, F]; 0 without a forecast.
        known: Gets whether there is a forecast, bool [R, F].
        ahead: Gets the distances in units of the scale, through arcsinh, float32 [R, F].
    """
    targets, ahead_steps = sizes.targets, steps.shape[1]
    levels, weekdays = np.empty(3 * sizes.means - 1 + sizes.slots * sizes.carries), np.full(ahead_steps, -1)
    values, flags = np.empty((ahead_steps, sizes.forecasters)), np.empty((ahead_steps, sizes.forecasters), np.bool_)
    periods, whole = np.empty(sizes.slots, np.int64), rows.view(np.int64)
    for n in range(rows.shape[0]):
        if sizes.tells_days:
            for step in range(ahead_steps):
                weekdays[step] = weekday_of(times[n, step])
        for target in range(targets):
            levels_of(rows[n], sizes, tables, target, levels)
            read_periods(whole[n], sizes, tables.lags, target, periods)
            forecast_naively(rows[n], periods, sizes, steps[n], weekdays, target, levels, values, flags)
            centre, scale = units[n * targets + target, 0], units[n * targets + target, 1]
            for step in range(ahead_steps):
                at = (n * ahead_steps + step) * targets + target
                # Apart, so that the second loop becomes vector instructions.
                for forecaster in range(sizes.forecasters):
                    is_known = flags[step, forecaster]
                    known[at, forecaster] = is_known
                    offsets[at, forecaster] = values[step, forecaster] - centre if is_known else 0.0
                for forecaster in range(sizes.forecasters):
                    ahead[at, forecaster] = compressed(offsets[at, forecaster] / scale)


@kernel
def tell_known(sizes, tables, times, covariates, known, which):
    """Write the known inputs of steps, once for sessions in a row that have the same.

    Args:
        times: The times, int64 [N, S]; any numbers without a calendar.
        covariates: The covariates, NaN where not known, float64 [N, S, C].
        known: Gets the inputs, float32 [N S, known].
        which: Gets the place of each session among the different ones, int64 [N].

    Returns:
        How many sessions differ.
    """
    different, steps = 0, times.shape[1]
    for n in range(times.shape[0]):
        is_new = n == 0 or sizes.covariates > 0
        if not is_new:
            for step in range(steps):
                if times[n, step] != times[n - 1, step]:
                    is_new = True
                    break
        if is_new:
            for step in range(steps):
                write_known(sizes, tables, times[n, step], covariates[n, step], known[different * steps + step])
            different += 1
        which[n] = different - 1
    return different


@kernel
def join(hidden, series, steps, by_step, of_known, which, targets):
    """Add the parts of the head's first layer, and bend the sum by SiLU.

    Args:
        hidden: The product of `ahead` of `propose`, float32 [R, G]; is changed.
        series: What is the same for all steps, [N D, G].
        steps: The steps ahead, int64 [N, S]; `by_step`: what each contributes, [horizon, G].
        of_known: What the known inputs contribute, [., G]; empty without any. `which`: from `tell_known`.
    """
    ahead, size = steps.shape[1], hidden.shape[1]
    for n in range(steps.shape[0]):
        for step in range(ahead):
            own, told = steps[n, step] - 1, which[n] * ahead + step
            for target in range(targets):
                row, same = (n * ahead + step) * targets + target, n * targets + target
                if len(of_known):
                    for at in range(size):
                        hidden[row, at] += of_known[told, at]
                for at in range(size):
                    value = hidden[row, at] + series[same, at] + by_step[own, at]
                    hidden[row, at] = value / (_F(1.0) + exp32(-value))


@kernel
def bend(hidden, bias):
    """Add the bias and apply SiLU, in place; hidden: float32 [R, G]."""
    for n in range(hidden.shape[0]):
        for at in range(hidden.shape[1]):
            value = hidden[n, at] + bias[at]
            hidden[n, at] = value / (_F(1.0) + exp32(-value))


@kernel
def spread(rows, sizes, tables, weights, emitted, offsets, known, units, errors, powers, quantiles):
    """Combine the naive forecasts into quantiles, within reach.

    Args:
        rows: The sessions' rows, float64.
        emitted: The output of the learned layers without its bias, float32 [R, F + 1 + Q and padding]; is changed.
        offsets, known, units, errors, powers: From `propose` and `describe`.
        quantiles: Gets the quantiles, float64 [N, S, D, Q].
    """
    by_row, flat = quantiles.reshape(-1, sizes.levels), emitted.reshape(-1)
    rows_each = quantiles.shape[1] * sizes.targets
    numbers_each = rows_each * emitted.shape[1]
    for n in range(rows.shape[0]):
        for at in range(n * rows_each, (n + 1) * rows_each):
            write_exponents(at, n * sizes.targets + at % sizes.targets, sizes, weights, emitted, known, errors, by_row)
        # All at once, padding included: far faster in one loop than in many short ones.
        for at in range(n * numbers_each, (n + 1) * numbers_each):
            flat[at] = exp32(flat[at])
        for target in range(sizes.targets):
            combine(rows, n, target, sizes, tables, weights, emitted, offsets, units, powers, by_row)


@part
def write_exponents(at, series, sizes, weights, emitted, known, errors, by_row):
    """Replace row `at` of `emitted` by what is to be exponentiated; its shift, which is not, waits as the median."""
    forecasters, first, bias, highest = sizes.forecasters, sizes.forecasters + 2, weights.emit_bias, _LOWEST
    sharpness = min(max(emitted[at, forecasters] + bias[forecasters], -_LARGEST_TRUST), _LARGEST_TRUST)
    trust = weights.trust[0] * exp32(sharpness)
    for f in range(forecasters):
        logit = emitted[at, f] + bias[f] - trust * errors[series, f]
        emitted[at, f] = logit if known[at, f] else _NO_WEIGHT
    for f in range(forecasters):
        highest = max(highest, emitted[at, f])
    for f in range(forecasters):
        emitted[at, f] = max(emitted[at, f] - highest, _LEAST_WEIGHT)
    by_row[at, sizes.median] = emitted[at, first - 1]
    for f in range(first, first + sizes.levels - 1):
        emitted[at, f] = min(max(emitted[at, f] + bias[f], -_LARGEST_WIDTH), _LARGEST_WIDTH)


@part
def combine(rows, n, target, sizes, tables, weights, emitted, offsets, units, powers, by_row):
    """Write the quantiles of a target of session n, from the weights and widths in `emitted`."""
    targets, median, first, widths = sizes.targets, sizes.median, sizes.forecasters + 2, tables.widths
    series, ahead = n * targets + target, emitted.shape[0] // (rows.shape[0] * targets)
    lowest, highest, is_known = reach_of(rows, n, sizes, target)
    base, scale = units[series, 0], units[series, 1]
    narrowest = NARROWEST_SHARE * scale + FLOAT32_RESOLUTION * abs(base)
    for step in range(ahead):
        at = (n * ahead + step) * targets + target
        if not is_known:
            for level in range(sizes.levels):
                by_row[at, level] = np.nan
            continue
        total, unit, kept, centre = 0.0, 0.0, 0.0, 0.0
        for f in range(sizes.forecasters):
            weight = emitted[at, f]
            total += weight
            unit += weight * powers[series, f]
            weight = max(weight - _NEGLIGIBLE, _NOTHING)
            kept += weight
            centre += weight * offsets[at, f]
        unit = (unit / total + SMALLEST_UNIT) * scale
        shift = min(max(_F(by_row[at, median]) + weights.emit_bias[first - 1], -_LARGEST_SHIFT), _LARGEST_SHIFT)
        shift -= min(max(shift, -_NEGLIGIBLE), _NEGLIGIBLE)
        centre = centre / kept + shift * unit + base
        by_row[at, median] = min(max(centre, lowest), highest)
        value = centre
        for level in range(median, sizes.levels - 1):
            value += max(emitted[at, first + level] * unit, narrowest) * widths[level]
            by_row[at, level + 1] = min(max(value, lowest), highest)
        value = centre
        for level in range(median - 1, -1, -1):
            value -= max(emitted[at, first + level] * unit, narrowest) * widths[level]
            by_row[at, level] = min(max(value, lowest), highest)


@part
def reach_of(rows, n, sizes, target):
    """Return the limits of session n's quantiles, by the side of 0 of its values, and whether it has any values."""
    lowest = 0.0 if rows[n, sizes.at_lowest + target] == 0 else -LARGEST_FLOAT32
    highest = 0.0 if rows[n, sizes.at_highest + target] == 0 else LARGEST_FLOAT32
    return lowest, highest, rows[n, sizes.at_count + target] > 0


@part
def keep_within(rows, n, sizes, target, quantiles, at):
    """Limit quantiles[at] to the side of 0 on which all values of session n were; NaN without values."""
    lowest, highest, is_known = reach_of(rows, n, sizes, target)
    for level in range(sizes.levels):
        quantiles[at, level] = min(max(quantiles[at, level], lowest), highest) if is_known else np.nan
