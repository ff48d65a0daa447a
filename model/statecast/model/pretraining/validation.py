"""Validation of a univariate model on synthetic series that it was not trained on."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..forecaster.forecaster import Forecaster
from .synthetic import make_series

Scores = dict[str, NDArray[np.float64]]

VALIDATION_SEED = 2**40
EARLY, LATE = (100, 500), (1036, 1536)
LONGEST_HORIZON = 64


def validate(forecaster: Forecaster, series: int = 200, steps: int = 1536) -> dict[str, float]:
    """Forecast held-out synthetic series at most 64 steps ahead, and compare with naive forecasts.

    Errors are relative to the mean absolute error of the last value, series by series. Each figure is the geometric
    mean over all series with errors.

    Args:
        forecaster: A model of one target.
        series: The number of series.
        steps: The length of each series.

    Returns:
        Figures by name.
    """
    rng = np.random.default_rng(VALIDATION_SEED)
    horizon = min(forecaster.config.horizon, LONGEST_HORIZON)
    made = [make_series(rng, steps + horizon) for _ in range(series)]
    values = torch.from_numpy(np.stack([one.values for one in made]))
    periods = [one.period for one in made]
    early = _scores(forecaster, values, periods, range(*EARLY, 50))
    late = _scores(forecaster, values, periods, range(*LATE, 50))
    both = {name: np.concatenate([early[name], late[name]]) for name in early}
    return {
        "series": float(series),
        "median_error_vs_last_value": _ratio(both, "median"),
        "seasonal_naive_error_vs_last_value": _ratio(both, "seasonal"),
        "weighted_quantile_loss_vs_last_value": _ratio(both, "pinball"),
        "coverage_80": float(np.nanmean(both["covered"])),
        "coverage_80_early": float(np.nanmean(early["covered"])),
        "coverage_80_late": float(np.nanmean(late["covered"])),
        "median_error_vs_last_value_early": _ratio(early, "median"),
        "median_error_vs_last_value_late": _ratio(late, "median"),
    }


def _scores(forecaster: Forecaster, values: Tensor, periods: list[int], origins: range) -> Scores:
    """Return the mean errors of each series over all origins and steps ahead."""
    horizon, levels = min(forecaster.config.horizon, LONGEST_HORIZON), forecaster.config.quantile_levels
    trace = forecaster.unroll(forecaster.initial_state(len(values)), values.unsqueeze(2))
    sums: dict[str, list[Tensor]] = {name: [] for name in ("median", "last", "seasonal", "pinball", "covered")}
    rows = torch.arange(len(values))
    for origin in origins:
        context = trace.context(rows, torch.full_like(rows, origin))
        quantiles = forecaster.forecast(context, horizon)[..., 0].double()
        outcome = values[:, origin : origin + horizon]
        median = quantiles[:, :, levels.index(0.5)]
        sums["median"].append((outcome - median).abs())
        sums["last"].append((outcome - context.statistics.last).abs())
        sums["seasonal"].append((outcome - _seasonal_naive(values, periods, origin, horizon)).abs())
        sums["pinball"].append(2 * _pinball(outcome, quantiles, levels))
        inside = (outcome >= quantiles[:, :, levels.index(0.1)]) & (outcome <= quantiles[:, :, levels.index(0.9)])
        sums["covered"].append(torch.where(outcome.isnan(), torch.nan, inside.double()))
    return {name: torch.cat(parts, dim=1).nanmean(1).numpy() for name, parts in sums.items()}


def _pinball(outcome: Tensor, quantiles: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Return the mean pinball loss over all levels, [N, S]."""
    level = torch.tensor(levels, dtype=torch.float64)
    misses = outcome.unsqueeze(2) - quantiles
    return torch.maximum(level * misses, (level - 1) * misses).mean(2)


def _seasonal_naive(values: Tensor, periods: list[int], origin: int, horizon: int) -> Tensor:
    """Return the values one true period before, or the last value if the period has not passed yet."""
    ahead = torch.arange(horizon)
    lags = torch.tensor([period if period < origin else 1 for period in periods]).unsqueeze(1)
    index = origin + ahead - (ahead // lags + 1) * lags
    return values.gather(1, index)


def _ratio(scores: Scores, name: str) -> float:
    """Return the geometric mean of each series' ratio to the error of the last value, if both have errors."""
    error, last = scores[name], scores["last"]
    known = (error > 0) & (last > 0)
    return float(np.exp(np.log(error[known] / last[known]).mean()))
