"""Computes the forecasts of a batch, and selects from each what its request asked for."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from statecast.model import Future, StreamingTrace
from statecast.service.engine.clock import times_after
from statecast.service.engine.job import Wanted
from statecast.service.engine.request import ForecastOutput, Outline
from statecast.service.models.registry import Model

FORECASTS_AT_ONCE = 512


def forecasts(
    model: Model, trace: StreamingTrace, start: int, wanted: Sequence[Wanted]
) -> Iterator[tuple[Wanted, ForecastOutput]]:
    """Yield the forecasts from within a trace that begins `start` steps into the batch."""
    device = model.forecaster.device
    for at in range(0, len(wanted), FORECASTS_AT_ONCE):
        part = wanted[at : at + FORECASTS_AT_ONCE]
        rows = torch.tensor([each.index for each in part], device=device)
        steps = torch.tensor([each.step - start for each in part], device=device)
        horizon = max(each.request.horizon for each in part)
        future = Future(_times(model, part, horizon), _covariates(model, part, horizon))
        values = model.forecaster.forecast(trace.context(rows, steps), horizon, future).cpu().numpy()
        for each, forecast in zip(part, values, strict=True):
            yield each, _result(model, each, forecast)


def _times(model: Model, wanted: Sequence[Wanted], horizon: int) -> Tensor | None:
    """Return the times of the steps to forecast, int64 [forecasts, horizon]; None without a frequency."""
    if model.frequency is None:
        return None
    # A session without observations has no time yet, but nothing to forecast from either.
    lasts = np.array([each.answer.standing.last_time or 0 for each in wanted], np.int64)
    return torch.from_numpy(times_after(lasts, horizon, model.frequency)).to(model.forecaster.device)


def _covariates(model: Model, wanted: Sequence[Wanted], horizon: int) -> Tensor | None:
    """Return the known covariates of those steps, float64 [forecasts, horizon, covariates]; None if there are none."""
    count = len(model.config.covariates)
    if not any(each.request.future_covariates.size for each in wanted):
        return None
    known = np.full((len(wanted), horizon, count), np.nan)
    for covariates, each in zip(known, wanted, strict=True):
        if each.request.future_covariates.size:
            covariates[: each.request.horizon] = each.request.future_covariates.reshape(-1, count)
    return torch.from_numpy(known).to(model.forecaster.device)


def _result(model: Model, wanted: Wanted, values: NDArray[np.float32]) -> ForecastOutput:
    """Select what the request asked for from `values` [horizon, levels or classes, targets]."""
    request, standing = wanted.request, wanted.answer.standing
    start, clock = None, standing.clock
    if clock and standing.last_time is not None:
        start = clock.instant(clock.frequency.add(standing.last_time, 1))
    values = values[: request.horizon]
    if request.quantile_levels:
        values = _at_levels(values, model.config.quantile_levels, request.quantile_levels)
    outline = _outline(model, request.horizon, request.quantile_levels, standing.zone.name)
    return ForecastOutput(outline, start, values)


@lru_cache(maxsize=1024)
def _outline(model: Model, horizon: int, levels: tuple[float, ...], time_zone: str) -> Outline:
    config = model.config
    levels = levels or config.quantile_levels
    return Outline(horizon, config.frequency, levels, config.classes, config.targets, time_zone)


def _at_levels(values: NDArray[np.float32], known: Sequence[float], wanted: Sequence[float]) -> NDArray[np.float32]:
    """Interpolate quantiles [horizon, wanted levels, targets] linearly between the known levels."""
    above = np.searchsorted(known, wanted)
    below = (above - 1).clip(0)
    low, high = np.take(known, below), np.take(known, above)
    weight = np.where(above > below, (wanted - low) / np.where(above > below, high - low, 1), 0)
    weight = weight[:, None].astype(np.float32)
    # This form, clipped, keeps rounding from making quantiles cross.
    under, over = values[:, below], values[:, above]
    mixed: NDArray[np.float32] = np.minimum(under + (over - under) * weight, over)
    return mixed
