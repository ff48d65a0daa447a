"""Scores of forecasts, as fev-bench defines them: SQL, MASE, WQL, WAPE, MAE and coverage; further two measures of MAPE.

SQL and MASE divide quantile loss and absolute error by the seasonal error of each window's past. WQL and WAPE divide
them by the mean absolute outcome. Every score is a mean over the points of a target and window, then over targets,
then over windows. Missing outcomes do not count.

sum-MAPE divides the sum of the absolute errors by the sum of the absolute outcomes, over all points of a target, then
takes the mean over targets. sMAPE is a mean of the absolute error over half the sum of the sizes of outcome and median,
as in the M4 competition; a point counts 0 where both are 0.

The tests compare these scores with utilsforecast.losses, which the package does not use for two reasons. It takes means
per series and cut-off, from which means over points cannot be derived if outcomes are missing. It also counts a
missing outcome as one outside its interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .levels import central_bands, interpolate, scored_levels
from .windows import EvaluationError, Forecasts, Protocol, Truth

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """The outcomes after each cut-off, and the scale of each window.

    Attributes:
        truths: The S pairs of series and target.
        protocol: The cut-offs and the horizon.
        values: The outcomes, NaN where missing, in the data's own units, float64 [S, W, H].
        scales: Mean absolute seasonal difference of each window's past, NaN where it is 0 or there is none, [S, W].
    """

    truths: tuple[Truth, ...]
    protocol: Protocol
    values: Floats
    scales: Floats

    @classmethod
    def of(cls, truths: Sequence[Truth], protocol: Protocol) -> "Outcomes":
        """Cut the outcomes out of the series.

        Raises:
            EvaluationError: There are no series, or one has too few or too many cut-offs, or ends inside a window.
        """
        if not truths:
            raise EvaluationError("no series to evaluate")
        for truth in truths:
            if len(truth.cutoffs) != protocol.windows:
                raise EvaluationError(f"{truth.name}: {len(truth.cutoffs)} cut-offs for {protocol.windows} windows")
            if truth.cutoffs[-1] + protocol.horizon > len(truth.values):
                raise EvaluationError(f"{truth.name}: ends before its last window does")
        ahead = np.arange(protocol.horizon)
        values = np.stack([truth.values[truth.cutoffs[:, None] + ahead] for truth in truths])
        scales = np.stack([seasonal_errors(truth, protocol.season) for truth in truths])
        return cls(tuple(truths), protocol, values, scales)


@dataclass(frozen=True)
class Coverage:
    """The share of outcomes inside a central band, including its bounds; NaN if there are no outcomes.

    Attributes:
        stated: The share that should lie inside.
        overall: The share of all outcomes.
        first_half: The share in the first half of the windows.
        second_half: The share in the second half.
        by_step: The share at each step ahead, [H].
    """

    stated: float
    overall: float
    first_half: float
    second_half: float
    by_step: Floats


@dataclass(frozen=True)
class SeriesScore:
    """The scores of one forecaster on one series; NaN if there is no outcome or no scale."""

    unique_id: str
    target: str
    sql: float
    mase: float
    mae: float
    points: int


@dataclass(frozen=True)
class Scores:
    """The scores of one forecaster; NaN if nothing could be scored.

    Attributes:
        name: The name of the forecaster.
        windows: The cut-offs at which it forecast, by number.
        levels: The levels over which SQL and WQL are means.
        sql: Scaled quantile loss, the mean over levels of twice the pinball loss.
        mase: Mean absolute error of the median, scaled.
        wql: Quantile loss over the mean absolute outcome.
        wape: Absolute error of the median over the mean absolute outcome.
        sum_mape: Sum of absolute errors of the median over the sum of absolute outcomes.
        smape: Absolute error of the median over half the sum of the sizes of outcome and median, from 0 to 2.
        mae: Absolute error of the median, in the data's own units.
        sql_by_step: SQL of each step ahead, [H].
        mae_by_step: MAE of each step ahead, [H].
        coverage: The coverage of each central band, narrowest first.
        observed_share: Share of outcomes at or below each of the forecaster's levels.
        series: The scores of each series, in the order of the truths.
    """

    name: str
    windows: tuple[int, ...]
    levels: tuple[float, ...]
    sql: float
    mase: float
    wql: float
    wape: float
    sum_mape: float
    smape: float
    mae: float
    sql_by_step: Floats
    mae_by_step: Floats
    coverage: tuple[Coverage, ...]
    observed_share: Mapping[float, float]
    series: tuple[SeriesScore, ...]


def score(outcomes: Outcomes, forecasts: Forecasts) -> Scores:
    """Score a forecaster at the cut-offs of its forecasts.

    Raises:
        EvaluationError: The forecasts do not fit the outcomes, or the median lies outside their levels.
    """
    _check_fit(outcomes, forecasts)
    windows = list(forecasts.windows)
    values, scales = outcomes.values[:, windows], outcomes.scales[:, windows, None]
    levels = scored_levels(forecasts.levels)
    losses, errors = _losses(values, forecasts, levels)
    sizes = np.abs(values)
    scaled_losses, scaled_errors = losses / scales, errors / scales
    targets = [truth.target for truth in outcomes.truths]
    return Scores(
        name=forecasts.name,
        windows=forecasts.windows,
        levels=levels,
        sql=_over_windows(_per_window(scaled_losses, targets)),
        mase=_over_windows(_per_window(scaled_errors, targets)),
        wql=_over_windows(_ratio(_per_window(losses, targets), _per_window(sizes, targets))),
        wape=_over_windows(_ratio(_per_window(errors, targets), _per_window(sizes, targets))),
        sum_mape=_sum_mape(errors, sizes, targets),
        smape=_over_windows(_per_window(_smape(errors, sizes, forecasts), targets)),
        mae=_over_windows(_per_window(errors, targets)),
        sql_by_step=_by_step(scaled_losses, targets),
        mae_by_step=_by_step(errors, targets),
        coverage=_coverage(values, forecasts, outcomes.protocol),
        observed_share=_observed_share(values, forecasts),
        series=tuple(
            _series_score(truth, values[index], scaled_losses[index], scaled_errors[index], errors[index])
            for index, truth in enumerate(outcomes.truths)
        ),
    )


def seasonal_errors(truth: Truth, season: int) -> Floats:
    """Return the mean absolute seasonal difference of each window's past, NaN if it is 0 or there is none, [W].

    fev 0.10 leaves out the same windows; earlier versions divide by 1 if there is no difference.
    """
    result = np.full(len(truth.cutoffs), np.nan)
    for window in range(len(truth.cutoffs)):
        past = truth.past(window)
        error = _mean(np.abs(past[season:] - past[:-season]))
        if error > 0:
            result[window] = error
    return result


def _check_fit(outcomes: Outcomes, forecasts: Forecasts) -> None:
    if len(forecasts.quantiles) != len(outcomes.truths):
        raise EvaluationError(f"{forecasts.name}: {len(forecasts.quantiles)} series for {len(outcomes.truths)}")
    if forecasts.windows[-1] >= outcomes.protocol.windows:
        raise EvaluationError(f"{forecasts.name}: there are only {outcomes.protocol.windows} windows")
    if (ahead := forecasts.quantiles[0].shape[1]) != outcomes.protocol.horizon:
        raise EvaluationError(f"{forecasts.name}: {ahead} steps ahead for a horizon of {outcomes.protocol.horizon}")


def _losses(values: Floats, forecasts: Forecasts, levels: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Return the mean over levels of twice the pinball loss, and the absolute error of the median, both [S, V, H]."""
    losses, errors, middle = np.empty_like(values), np.empty_like(values), levels.index(0.5)
    for index, each in enumerate(forecasts.quantiles):
        quantiles = interpolate(each, forecasts.levels, levels)
        misses = values[index][..., None] - quantiles
        losses[index] = 2 * np.maximum(misses * levels, misses * (np.asarray(levels) - 1)).mean(axis=-1)
        errors[index] = np.abs(misses[..., middle])
    return losses, errors


def _sum_mape(errors: Floats, sizes: Floats, targets: Sequence[str]) -> float:
    chosen = [np.array([each == target for each in targets]) for target in sorted(set(targets))]
    sums = [(np.nansum(errors[each]), np.nansum(sizes[each])) for each in chosen]
    return _mean(np.array([error / size if size else np.nan for error, size in sums]))


def _smape(errors: Floats, sizes: Floats, forecasts: Forecasts) -> Floats:
    """Return the symmetric error of each point, from 0 to 2, [S, V, H]."""
    medians = np.stack([interpolate(each, forecasts.levels, (0.5,))[..., 0] for each in forecasts.quantiles])
    both = sizes + np.abs(medians)
    return np.where(both == 0, 0.0, 2 * errors / np.where(both == 0, 1.0, both))


def _coverage(values: Floats, forecasts: Forecasts, protocol: Protocol) -> tuple[Coverage, ...]:
    seen, second = ~np.isnan(values), protocol.in_second_half(forecasts.windows)
    values = _as_forecast(values)
    result = []
    for low, high in central_bands(forecasts.levels):
        inside = (values >= _at_level(forecasts, low)) & (values <= _at_level(forecasts, high))
        hits = np.where(seen, inside, np.nan)
        by_step = _nanmean(hits.reshape(-1, protocol.horizon), 0)
        stated = round(forecasts.levels[high] - forecasts.levels[low], 6)
        result.append(Coverage(stated, _mean(hits), _mean(hits[:, ~second]), _mean(hits[:, second]), by_step))
    return tuple(result)


def _observed_share(values: Floats, forecasts: Forecasts) -> dict[float, float]:
    seen, values = ~np.isnan(values), _as_forecast(values)
    return {
        level: _mean(np.where(seen, values <= _at_level(forecasts, position), np.nan))
        for position, level in enumerate(forecasts.levels)
    }


def _at_level(forecasts: Forecasts, position: int) -> Floats:
    return _as_forecast(np.stack([each[..., position] for each in forecasts.quantiles]))


def _as_forecast(values: Floats) -> Floats:
    """Round values to float32, as forecasts are sent, so that an outcome equal to a quantile still equals it."""
    return values.astype(np.float32).astype(np.float64)


def _series_score(truth: Truth, values: Floats, losses: Floats, scaled_errors: Floats, errors: Floats) -> SeriesScore:
    """Return the scores of one series from its values, losses and errors at each point, [V, H]."""
    sql, mase, mae = (_mean(_nanmean(each, 1)) for each in (losses, scaled_errors, errors))
    return SeriesScore(truth.unique_id, truth.target, sql, mase, mae, int((~np.isnan(values)).sum()))


def _per_window(points: Floats, targets: Sequence[str]) -> Floats:
    """Return means over the points of each target and window, [S, V, H] to [targets, V]."""
    chosen = [np.array([each == target for each in targets]) for target in sorted(set(targets))]
    return np.stack([_nanmean(np.moveaxis(points[each], 1, 0).reshape(points.shape[1], -1), 1) for each in chosen])


def _by_step(points: Floats, targets: Sequence[str]) -> Floats:
    """Return the mean of each step ahead, [S, V, H] to [H]."""
    steps = range(points.shape[-1])
    return np.array([_over_windows(_per_window(points[..., step, None], targets)) for step in steps])


def _over_windows(means: Floats) -> float:
    """Return the mean over targets, then over windows, of [targets, V]."""
    return _mean(_nanmean(means, 0))


def _ratio(numerators: Floats, denominators: Floats) -> Floats:
    """Divide, with NaN where the denominator is 0 because all outcomes are 0."""
    return numerators / np.where(denominators > 0, denominators, np.nan)


def _nanmean(values: Floats, axis: int) -> Floats:
    """Return the mean without NaN values; NaN, without a warning, if there are no others."""
    seen = ~np.isnan(values)
    counts = seen.sum(axis=axis)
    sums = np.where(seen, values, 0.0).sum(axis=axis)
    return np.asarray(sums / np.where(counts > 0, counts, np.nan))


def _mean(values: Floats) -> float:
    return float(_nanmean(values.ravel(), 0))
