"""Stream every series once through the model, as the service does, and forecast at the cut-offs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..contract import Future, StreamingModel
from ..data.panel import Panel, Series
from ..frequency import Frequency
from ..state import State
from .windows import EvaluationError, Forecasts, Protocol, Truth

SERIES_AT_ONCE = 64
STEPS_AT_ONCE = 256
Quantiles = NDArray[np.float64]
Progress = Callable[[int, int], None]
# For each series of a panel, the number of rows before each cut-off, ascending, int64 [W].
Cutoffs = Sequence[NDArray[np.int64]]


def cutoffs_of(panel: Panel, protocol: Protocol) -> Cutoffs:
    """Return the cut-offs of every series.

    Raises:
        DataError: The protocol begins at a time, and the panel has none.
        EvaluationError: A series is too short for the protocol.
    """
    begins = begins_of(panel, protocol)
    return [protocol.cutoffs(series.rows, begin) for series, begin in zip(panel.series, begins, strict=True)]


def begins_of(panel: Panel, protocol: Protocol) -> Sequence[int | None]:
    """Return the number of rows of every series before the time at which the protocol begins; None if at none.

    Raises:
        DataError: The protocol begins at a time, and the panel has none.
    """
    if isinstance(protocol.begins, str):
        return panel.rows_before(protocol.begins)
    return [None] * len(panel.series)


def truths_of(panel: Panel, cutoffs: Cutoffs) -> list[Truth]:
    """Return one truth for each series and target, series by series."""
    return [
        Truth(series.unique_id, target, series.values[:, at], each)
        for series, each in zip(panel.series, cutoffs, strict=True)
        for at, target in enumerate(panel.targets)
    ]


def is_seen(series: Series, targets: Sequence[str], cutoff: int) -> bool:
    """Return whether every target has a value before the first cut-off. Without one there is nothing to forecast from.

    Args:
        series: The series.
        targets: The names of its targets.
        cutoff: The number of rows before the first cut-off.
    """
    return bool(np.isfinite(series.values[:cutoff, : len(targets)]).any(axis=0).all())


def roll(
    model: StreamingModel,
    panel: Panel,
    cutoffs: Cutoffs,
    horizon: int,
    *,
    context_steps: int | None = None,
    progress: Progress | None = None,
) -> Forecasts:
    """Forecast every window. The model sees the rows before the cut-off, and times and covariates of the steps ahead.

    Args:
        model: A quantile forecaster of the panel's targets and covariates.
        panel: The series.
        cutoffs: The cut-offs of each series, the same number for all.
        horizon: How many steps ahead to forecast.
        context_steps: How many steps before the first cut-off to stream, or more if a target has no value in them;
            None for all.
        progress: Called with the number of series done and the total.

    Raises:
        EvaluationError: The model does not fit the panel or the horizon.
    """
    _check(model, panel, horizon)
    quantiles: dict[int, Quantiles] = {}
    order = sorted(range(len(panel.series)), key=lambda index: panel.series[index].rows)
    for start in range(0, len(order), SERIES_AT_ONCE):
        chosen = order[start : start + SERIES_AT_ONCE]
        group = _Group.of(model, panel, chosen, cutoffs, context_steps)
        quantiles |= dict(zip(chosen, group.run(model, horizon), strict=True))
        if progress:
            progress(start + len(chosen), len(order))
    by_target = [quantiles[index][..., at] for index in range(len(panel.series)) for at in range(len(panel.targets))]
    config = model.config
    name = f"{config.name} {config.version}"
    return Forecasts(name, config.quantile_levels, tuple(by_target), tuple(range(len(cutoffs[0]))))


@dataclass(frozen=True)
class _Group:
    """Series that are streamed as one batch.

    Attributes:
        series: The B series.
        times: The times of each series' rows, int64 [rows] each; None if only position counts.
        categories: The categories by position among the model's values from 1, 0 if unknown, int64 [B, S].
        targets: The number of targets.
        stops: The first row to stream of each series, then its cut-offs, int64 [B, W + 1].
        device: The device of the model.
    """

    series: Sequence[Series]
    times: Sequence[NDArray[np.int64]] | None
    categories: Tensor
    targets: int
    stops: NDArray[np.int64]
    device: torch.device

    @staticmethod
    def of(
        model: StreamingModel, panel: Panel, chosen: Sequence[int], cutoffs: Cutoffs, context_steps: int | None
    ) -> "_Group":
        config = model.config
        series = [panel.series[index] for index in chosen]
        stops = np.stack([cutoffs[index] for index in chosen])
        begin = np.zeros(len(series), np.int64)
        if context_steps is not None:
            last = [_last_seen(each, len(panel.targets), at) for each, at in zip(series, stops[:, 0], strict=True)]
            begin = np.maximum(0, np.minimum(stops[:, 0] - context_steps, last))
        times = None
        if config.frequency:
            frequency = Frequency.parse(config.frequency)
            times = [each.times(frequency) for each in series]
        named = [dict(zip(panel.categories, each.categories, strict=True)) for each in series]
        categories = [[category.index(names[category.name]) for category in config.categories] for names in named]
        index = torch.tensor(categories, dtype=torch.int64, device=model.device).view(len(series), -1)
        return _Group(series, times, index, len(panel.targets), np.column_stack([begin, stops]), model.device)

    @torch.inference_mode()
    def run(self, model: StreamingModel, horizon: int) -> list[Quantiles]:
        """Return the forecasts of each series, float64 [W, horizon, Q, D]."""
        state = model.initial_state(len(self.series))
        forecasts = []
        rows = torch.arange(len(self.series), device=self.device)
        for begin, stop in pairwise(self.stops.T):
            for start, lengths in _pieces(begin, stop):
                trace = model.advance(
                    state,
                    self._rows(start, lengths),
                    torch.from_numpy(lengths).to(self.device),
                    times=self._times(start, int(lengths.max())),
                    categories=self.categories,
                )
                state = trace.state
            context = self._context(model, state, rows)
            forecasts.append(model.forecast(context, horizon, self._future(stop, horizon)).double().cpu().numpy())
        return list(np.stack(forecasts, axis=1))

    def _context(self, model: StreamingModel, state: State, rows: Tensor) -> object:
        """Return the forecast context of the sessions, from a trace without observations."""
        width = self.series[0].values.shape[1]
        nothing = torch.empty(len(rows), 0, width, dtype=torch.float64, device=self.device)
        times = None if self.times is None else torch.empty(len(rows), 0, dtype=torch.int64, device=self.device)
        trace = model.advance(state, nothing, times=times, categories=self.categories)
        return trace.context(rows, torch.zeros_like(rows))

    def _rows(self, start: NDArray[np.int64], lengths: NDArray[np.int64]) -> Tensor:
        rows = np.full((len(self.series), int(lengths.max()), self.series[0].values.shape[1]), np.nan)
        for index, (series, at, length) in enumerate(zip(self.series, start, lengths, strict=True)):
            rows[index, :length] = series.values[at : at + length]
        return torch.from_numpy(rows).to(self.device)

    def _times(self, start: NDArray[np.int64], steps: int) -> Tensor | None:
        """Return the times of `steps` rows from each start, 0 past the end of a series."""
        if self.times is None:
            return None
        times = np.zeros((len(self.times), steps), np.int64)
        for index, (each, at) in enumerate(zip(self.times, start, strict=True)):
            part = each[at : at + steps]
            times[index, : len(part)] = part
        return torch.from_numpy(times).to(self.device)

    def _future(self, cutoffs: NDArray[np.int64], horizon: int) -> Future:
        """Return the times and covariates of the steps ahead."""
        covariates = None
        if self.series[0].values.shape[1] > self.targets:
            parts = [
                each.values[at : at + horizon, self.targets :] for each, at in zip(self.series, cutoffs, strict=True)
            ]
            covariates = torch.from_numpy(np.stack(parts)).to(self.device)
        return Future(self._times(cutoffs, horizon), covariates)


def _last_seen(series: Series, targets: int, cutoff: int) -> int:
    """Return the last row from which on every target with a value before the cut-off has one; -1 if none has."""
    rows = [np.flatnonzero(np.isfinite(column)) for column in series.values[:cutoff, :targets].T]
    return min((int(each[-1]) for each in rows if len(each)), default=-1)


def _pieces(begin: NDArray[np.int64], stop: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Split the rows from `begin` to `stop` into pieces; yield the first row and length of each series' piece."""
    for offset in range(0, int((stop - begin).max()), STEPS_AT_ONCE):
        start = np.minimum(begin + offset, stop)
        yield start, np.minimum(stop - start, STEPS_AT_ONCE)


def _check(model: StreamingModel, panel: Panel, horizon: int) -> None:
    config = model.config
    for what, wanted, given in (
        ("targets", config.targets, panel.targets),
        ("covariates", config.covariates, panel.covariates),
        ("frequency", config.frequency, panel.frequency),
    ):
        if wanted != given and not _goes(what, wanted, given):
            raise EvaluationError(f"{what}: {config.name} has {_shown(wanted)}, but the data {_shown(given)}")
    if missing := sorted({category.name for category in config.categories} - set(panel.categories)):
        raise EvaluationError(f"categories: {config.name} needs {', '.join(missing)}; name the columns")
    if not config.quantile_levels:
        raise EvaluationError(f"{config.name} forecasts symbols, not quantities")
    if horizon > config.horizon:
        raise EvaluationError(f"horizon: {horizon} is beyond the {config.horizon} steps that {config.name} sees")


def _goes(what: str, wanted: str | tuple[str, ...], given: str | tuple[str, ...]) -> bool:
    """Return whether values that differ still fit: a single target may have any name, and a model may ignore times."""
    return not wanted if what == "frequency" else what == "targets" and len(wanted) == len(given) == 1


def _shown(value: str | tuple[str, ...]) -> str:
    return (value if isinstance(value, str) else ", ".join(value)) or "none"
