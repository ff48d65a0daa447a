"""The forecasts of an evaluation beside their outcomes, as rows of a long table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.panel import Panel
from ..frequency import Frequency
from .scores import Outcomes
from .windows import Forecasts


@dataclass(frozen=True)
class Rows:
    """One row for each forecaster, series, cut-off and step ahead, in that order.

    Attributes:
        forecaster: Name of the forecaster, [N].
        series: Id of the series, [N].
        cutoff: Number of the series' rows before the cut-off, int64 [N].
        step: Number of steps ahead, from 1, int64 [N].
        seen_until: Time of the last row before the cut-off, in nanoseconds on the panel's clock, int64 [N]; None if
            there are no times.
        time: Time of the step, likewise.
        outcomes: The targets' values, NaN where missing, float64 [N, D].
        levels: The model's quantile levels.
        quantiles: The forecasts at those levels, float64 [N, D, Q].
    """

    forecaster: NDArray[np.object_]
    series: NDArray[np.object_]
    cutoff: NDArray[np.int64]
    step: NDArray[np.int64]
    seen_until: NDArray[np.int64] | None
    time: NDArray[np.int64] | None
    outcomes: NDArray[np.float64]
    levels: tuple[float, ...]
    quantiles: NDArray[np.float64]

    @classmethod
    def of(cls, panel: Panel, outcomes: Outcomes, forecasts: Sequence[Forecasts]) -> "Rows":
        """Arrange the forecasts of every forecaster, the model first, whose levels count."""
        parts = [_part(panel, outcomes, each, forecasts[0].levels) for each in forecasts]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return cls(
            joined["forecaster"], joined["series"], joined["cutoff"], joined["step"], joined.get("seen_until"),
            joined.get("time"), joined["outcomes"], forecasts[0].levels, joined["quantiles"],
        )  # fmt: skip


def _part(
    panel: Panel, outcomes: Outcomes, forecasts: Forecasts, levels: Sequence[float]
) -> dict[str, NDArray[np.generic]]:
    """Return the columns of one forecaster."""
    windows, horizon, targets = list(forecasts.windows), outcomes.protocol.horizon, len(panel.targets)
    shape = len(panel.series), len(windows), horizon
    # The truths are series by series, each with its targets.
    cutoffs = np.stack([truth.cutoffs[windows] for truth in outcomes.truths[::targets]])
    at = [int(np.abs(np.asarray(forecasts.levels) - level).argmin()) for level in levels]
    quantiles = np.stack(forecasts.quantiles)[..., at].reshape(len(panel.series), targets, *shape[1:], len(levels))
    values = outcomes.values[:, windows].reshape(len(panel.series), targets, *shape[1:])
    ids = np.array([series.unique_id for series in panel.series], object)
    steps = np.arange(1, horizon + 1)
    columns = {
        "forecaster": np.full(shape, forecasts.name, object).ravel(),
        "series": np.broadcast_to(ids[:, None, None], shape).ravel(),
        "cutoff": np.broadcast_to(cutoffs[..., None], shape).ravel(),
        "step": np.broadcast_to(steps, shape).ravel(),
        "outcomes": np.moveaxis(values, 1, -1).reshape(-1, targets),
        "quantiles": np.moveaxis(quantiles, 1, -2).reshape(-1, targets, len(levels)),
    }
    if panel.frequency:
        frequency = Frequency.parse(panel.frequency)
        times = [series.times(frequency) for series in panel.series]
        columns["seen_until"] = np.concatenate(
            [each[row - 1].repeat(horizon) for each, row in zip(times, cutoffs, strict=True)]
        )
        columns["time"] = np.concatenate(
            [each[(row[:, None] - 1 + steps).ravel()] for each, row in zip(times, cutoffs, strict=True)]
        )
    return columns
