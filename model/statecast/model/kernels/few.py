"""A step and a forecast of a few sessions, each as one kernel with the matrix products."""

import numpy as np

from .arguments import AHEAD, STRIDE
from .cells import run_layers
from .compiling import kernel
from .features import write_known, write_static, write_step
from .functions import add_product
from .head import bend, describe, join, propose, spread, tell_known
from .intervals import judge, share_below, wait, widen
from .statistics import change_periods, observe, weekday_of

_F = np.float32


@kernel
def take_in(
    rows, whole, after, after_whole, sizes, tables, weights, values, covariates, times, categories, found, inputs
):  # fmt: skip
    """Write windows, statistics and steps of N sessions after an observation, and the inputs of the recurrent layers.

    Args:
        rows, whole: The sessions' rows before, as float64 and int64; after, after_whole: those after.
        values, covariates: The observations, NaN where missing, float64 [N, D] and [N, C].
        times: Their times, int64 [N]; any numbers without a calendar.
        categories: The sessions' categories, int64 [N, S].
        found: The periods after the observation, int64 [N, D, K]; empty unless sessions find their own.
        inputs: Gets the inputs, float32 [N, I].
    """
    levels, periods = (
        np.empty(3 * sizes.means - 1 + sizes.slots * sizes.carries),
        np.empty((sizes.targets, sizes.slots), np.int64),
    )
    said, known = np.empty((1, sizes.forecasters)), np.empty((1, sizes.forecasters), np.bool_)
    one, weekday = np.ones(1, np.int64), np.full(1, -1)
    features = sizes.targets * sizes.step_inputs
    for n in range(rows.shape[0]):
        if sizes.tells_days:
            weekday[0] = weekday_of(times[n])
        observe(rows[n], whole[n], after[n], sizes, tables, values[n], one, weekday, periods, levels, said, known)
        if sizes.finds:
            for target in range(sizes.targets):
                change_periods(after[n], after_whole[n], sizes, target, periods[target], found[n, target])
        write_step(rows[n], after[n], sizes, tables.error_weights, tables.error_decay, values[n], inputs[n])
        if sizes.known:
            write_known(sizes, tables, times[n], covariates[n], inputs[n, features:])
        if sizes.static:
            write_static(tables, weights, categories[n], inputs[n, features + sizes.known :])
        after_whole[n, sizes.at_step] = whole[n, sizes.at_step] + 1


@kernel
def judge_all(rows, whole, after, sizes, tables, values, standing, pit):
    """Judge the forecasts before each value, and write the value's position in them.

    Args:
        standing: The forecasts as the model emits them, float64 [N, 1, D, Q]; are changed.
        pit: Gets the positions, float64 [N, D].
    """
    forecasts = standing.reshape(-1, sizes.levels)
    for n in range(rows.shape[0]):
        for target in range(sizes.targets):
            value, at = values[n, target], n * sizes.targets + target
            if sizes.adapts:
                judge(rows[n], after[n], whole[n], sizes, tables, value, target, forecasts, at)
            pit[n, target] = share_below(rows, n, sizes, tables, value, target, forecasts, at)


@kernel
def _forecast(rows, floats, sizes, tables, weights, steps, times, covariates, categories, quantiles):
    sessions, ahead, targets, size = rows.shape[0], steps.shape[1], sizes.targets, sizes.head
    series_count, count = sessions * targets, sessions * ahead * targets
    output = np.empty((sessions, sizes.hidden), _F)
    standing = np.empty((series_count, weights.standing.shape[0]), _F)
    units, errors = np.empty((series_count, 2)), np.empty((series_count, sizes.forecasters), _F)
    powers = np.empty((series_count, sizes.forecasters))
    describe(rows, floats, sizes, tables, weights, categories, output, standing, units, errors, powers)
    series = np.empty((sessions, targets * size), _F)
    series[:] = weights.series_bias
    add_product(output, weights.memory, series)
    by_target = series.reshape(series_count, size)
    add_product(standing, weights.standing, by_target)
    offsets, known = np.empty((count, sizes.forecasters)), np.empty((count, sizes.forecasters), np.bool_)
    proposed = np.empty((count, sizes.forecasters), _F)
    propose(rows, sizes, tables, steps, times, units, offsets, known, proposed)
    which, of_known = np.zeros(sessions, np.int64), np.zeros((0, size), _F)
    if sizes.known:
        told = np.empty((sessions * ahead, sizes.known), _F)
        different = tell_known(sizes, tables, times, covariates, told, which) * ahead
        of_known = np.zeros((different, size), _F)
        add_product(told[:different], weights.known, of_known)
    hidden = np.zeros((count, size), _F)
    add_product(proposed, weights.ahead, hidden)
    join(hidden, by_target, steps, weights.steps, of_known, which, targets)
    mixed = np.zeros((count, size), _F)
    add_product(hidden, weights.mix, mixed)
    bend(mixed, weights.mix_bias)
    emitted = np.zeros((count, weights.emit.shape[1]), _F)
    add_product(mixed, weights.emit, emitted)
    spread(rows, sizes, tables, weights, emitted, offsets, known, units, errors, powers, quantiles)


@kernel
def step_few(
    rows, floats, whole, after, after_floats, after_whole, sizes, tables, layers, weights, values, covariates, times,
    landing, categories, found, inputs, pit,
):  # fmt: skip
    """Take N sessions one observation further.

    Args:
        rows, floats, whole: The sessions' rows before, as float64, float32 and int64.
        after, after_floats, after_whole: Get the rows after.
        values, covariates, times, categories, found, inputs: See `take_in`.
        landing: The times of the checked steps after the observation but the first, int64 [N, checks - 1].
        pit: Gets the values' positions in the forecasts before them, float64 [N, D].
    """
    take_in(
        rows, whole, after, after_whole, sizes, tables, weights, values, covariates, times, categories, found, inputs
    )  # fmt: skip
    run_layers(floats, after_floats, sizes, layers, inputs)
    pit[:] = np.nan
    if not sizes.checks:
        return
    sessions = rows.shape[0]
    standing = np.empty((sessions, 1, sizes.targets, sizes.levels))
    one, now = np.ones((sessions, 1), np.int64), times.reshape(sessions, 1)
    told = covariates.reshape(sessions, 1, sizes.covariates)
    _forecast(rows, floats, sizes, tables, weights, one, now, told, categories, standing)
    judge_all(rows, whole, after, sizes, tables, values, standing, pit)
    if not sizes.adapts:
        return
    _issue(after, after_whole, sizes, tables, weights, landing, categories)


@kernel
def _issue(after, whole, sizes, tables, weights, landing, categories):
    """Make the forecasts that will be checked, and keep them in the sessions' rows."""
    row, ahead, then = np.empty((1, after.shape[1])), np.empty((1, 1), np.int64), np.empty((1, 1), np.int64)
    own, made = np.empty((1, categories.shape[1]), np.int64), np.empty((1, 1, sizes.targets, sizes.levels))
    unknown = np.full((1, 1, sizes.covariates), np.nan)
    for n in range(after.shape[0]):
        taken = whole[n, sizes.at_step]
        for check in range(1, sizes.checks):
            if taken % tables.checked[check, STRIDE]:
                continue
            row[0], own[0], ahead[0, 0], then[0, 0] = (
                after[n],
                categories[n],
                tables.checked[check, AHEAD],
                landing[n, check - 1],
            )
            _forecast(row, row.view(np.float32), sizes, tables, weights, ahead, then, unknown, own, made)
            for target in range(sizes.targets):
                wait(after[n], sizes, tables, taken, check, target, made[0, 0, target])


@kernel
def forecast_few(rows, floats, sizes, tables, weights, steps, times, covariates, categories, into):
    """Forecast chosen steps of N sessions, with intervals adapted.

    Args:
        rows, floats: The sessions' rows, as float64 and float32.
        steps: The steps ahead, from 1, int64 [N, S]; `times`: their times, int64 [N, S], any numbers if not needed.
        covariates: Their covariates, NaN where not known, float64 [N, S, C].
        categories: The sessions' categories, int64 [N, categories].
        into: Gets the quantiles, float32 [N, S, Q, D].
    """
    quantiles = np.empty((rows.shape[0], steps.shape[1], sizes.targets, sizes.levels))
    _forecast(rows, floats, sizes, tables, weights, steps, times, covariates, categories, quantiles)
    widen(rows, sizes, tables, steps, quantiles, into)
