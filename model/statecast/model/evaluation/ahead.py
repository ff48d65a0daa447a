"""Forecast every series of a panel from its end."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..contract import StreamingModel
from ..data.panel import Panel, Series
from ..frequency import Frequency
from .rolling import is_seen, roll
from .windows import EvaluationError


@dataclass(frozen=True)
class Ahead:
    """Forecasts of the steps after the last value of each series.

    Attributes:
        panel: The N series that could be forecast, each up to its last value.
        quantile_levels: The Q quantile levels, ascending.
        quantiles: Forecasts in the data's own units, float64 [N, horizon, D, Q].
        times: Times of the steps in nanoseconds, int64 [N, horizon], on the panel's clock; None if it has no times.
        left_out: Number of series that have no value of some target.
    """

    panel: Panel
    quantile_levels: tuple[float, ...]
    quantiles: NDArray[np.float64]
    times: NDArray[np.int64] | None
    left_out: int


def forecast_ahead(
    model: StreamingModel, panel: Panel, horizon: int, progress: Callable[[int, int], None] | None = None
) -> Ahead:
    """Stream each series through the model up to its last value of any target, and forecast the steps after it.

    Rows after that value hold the covariates of the steps ahead; where there are none, the covariates are unknown.

    Args:
        model: A quantile forecaster of the panel's targets and covariates.
        panel: The series.
        horizon: Number of steps to forecast.
        progress: Called with the number of series done and the total.

    Raises:
        EvaluationError: The model does not fit the panel or the horizon, or no series has values of every target.
    """
    targets = len(panel.targets)
    ends = {series.unique_id: _end(series, targets) for series in panel.series}
    seen = [each for each in panel.series if is_seen(each, panel.targets, ends[each.unique_id])]
    if not seen:
        raise EvaluationError("no series has values of every target, so there is nothing to forecast from")
    reaching = replace(panel, series=tuple(_reaching(each, ends[each.unique_id] + horizon) for each in seen))
    cutoffs = [np.array([ends[each.unique_id]]) for each in seen]
    rolled = roll(model, reaching, cutoffs, horizon, progress=progress)
    quantiles = np.stack([each[0] for each in rolled.quantiles])
    times = None
    if panel.frequency:
        frequency = Frequency.parse(panel.frequency)
        times = np.stack([each.times(frequency)[-horizon:] for each in reaching.series])
    return Ahead(
        replace(panel, series=tuple(each.until(ends[each.unique_id]) for each in seen)),
        rolled.levels,
        quantiles.reshape(len(seen), targets, horizon, -1).swapaxes(1, 2),
        times,
        len(panel.series) - len(seen),
    )


def _end(series: Series, targets: int) -> int:
    """Return the number of rows up to the last value of any target."""
    known = np.flatnonzero(np.isfinite(series.values[:, :targets]).any(axis=1))
    return int(known[-1]) + 1 if len(known) else 0


def _reaching(series: Series, rows: int) -> Series:
    """Return the series with exactly so many rows; rows that it does not have are blank."""
    missing = max(0, rows - series.rows)
    return replace(series, values=np.pad(series.values[:rows], ((0, missing), (0, 0)), constant_values=np.nan))
