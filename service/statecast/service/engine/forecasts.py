"""Computes the forecasts of a batch, and selects from each what its request asked for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from statecast.model import Future
from statecast.service.engine.clock import times_after
from statecast.service.engine.request import ForecastOutput, Outline, Request
from statecast.service.engine.standing import Standing
from statecast.service.models.registry import Model

FORECASTS_AT_ONCE, STEPS_AT_ONCE = 512, 32_768
SHORT_HORIZON = 64
FLOAT = np.dtype("<f4")
ContextOf = Callable[[Tensor, Tensor], Any]
"""Returns what the model needs of sessions after some of their new steps: both int64 [N]."""


@dataclass(slots=True)
class Wanted:
    """The output that a request wants: of the session at `index` of what is computed, after `step` of its new steps.

    Its last step then is at `last_time`. If `is_explained`, the request wants the gates of that step.
    """

    index: int
    position: int
    step: int
    request: Request
    standing: Standing
    last_time: int | None
    is_explained: bool = False

    @property
    def horizon(self) -> int:
        """Number of steps to forecast."""
        return self.request.horizon


def forecasts(
    model: Model, context_of: ContextOf, start: int, wanted: Sequence[Wanted]
) -> Iterator[tuple[Wanted, ForecastOutput]]:
    """Yield the forecasts; `context_of` counts the steps from `start`."""
    for part in _parts(wanted):
        rows = model.tensor([each.index for each in part])
        steps = model.tensor([each.step - start for each in part])
        horizon = max(each.request.horizon for each in part)
        future = Future(_times(model, part, horizon), _covariates(model, part, horizon))
        values = model.forecaster.forecast(context_of(rows, steps), horizon, future).cpu().numpy()
        known, outline = None, None
        for each, data in zip(part, _data(model, part, values), strict=True):
            request, standing = each.request, each.standing
            kind = request.horizon, request.quantile_levels, standing.zone, standing.own_frequency
            if outline is None or kind != known:  # neighbours mostly ask for the same
                known, outline = kind, _outline(model, request, standing)
            yield each, ForecastOutput(outline, _start(each), data)


def _parts(wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
    """Yield forecasts to compute at once, all as far as the farthest of them; so a long one delays no short ones."""
    by_length: dict[int, list[Wanted]] = {}
    for each in wanted:
        length = 1 << (max(each.horizon, SHORT_HORIZON) - 1).bit_length()
        by_length.setdefault(length, []).append(each)
    for length, alike in by_length.items():
        at_once = max(1, min(FORECASTS_AT_ONCE, STEPS_AT_ONCE // length))
        for at in range(0, len(alike), at_once):
            yield alike[at : at + at_once]


def _times(model: Model, wanted: Sequence[Wanted], horizon: int) -> Tensor | None:
    """Return the times of the steps to forecast, int64 [forecasts, horizon]; None without a frequency."""
    if model.frequency is None:
        return None
    # A session without observations has no time yet, but nothing to forecast from either.
    lasts = np.array([each.last_time or 0 for each in wanted], np.int64)
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


def _data(model: Model, wanted: Sequence[Wanted], values: NDArray[np.float32]) -> list[bytes]:
    """Return the bytes of each forecast, given all of them to the same horizon, [forecasts, horizon, levels, targets].

    Most ask for all of it: one copy, which is then cut.
    """
    horizon, levels = values.shape[1], model.config.quantile_levels
    if all(each.request.horizon == horizon and not each.request.quantile_levels for each in wanted):
        data = values.astype(FLOAT, copy=False).tobytes()
        size = len(data) // len(wanted)
        return [data[at : at + size] for at in range(0, len(data), size)]
    parts = []
    for each, own in zip(wanted, values, strict=True):
        own = own[: each.request.horizon]
        if each.request.quantile_levels:
            own = _at_levels(own, levels, each.request.quantile_levels)
        parts.append(own.astype(FLOAT, copy=False).tobytes())
    return parts


def _start(wanted: Wanted) -> int | None:
    """Return the instant of the first step ahead; None if only position counts."""
    if wanted.last_time is None or not (clock := wanted.standing.clock):
        return None
    return clock.instant(clock.frequency.add(wanted.last_time, 1))


def _outline(model: Model, request: Request, standing: Standing) -> Outline:
    alias = standing.frequency.alias if standing.frequency else ""
    return _outline_of(model, request.horizon, request.quantile_levels, standing.zone.name, alias)


@lru_cache(maxsize=1024)
def _outline_of(model: Model, horizon: int, levels: tuple[float, ...], time_zone: str, frequency: str) -> Outline:
    config = model.config
    levels = levels or config.quantile_levels
    return Outline(horizon, frequency, levels, config.classes, config.targets, time_zone)


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
