"""Streams every series once through the model, the way that the service does, and forecasts at the cut-offs."""

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
# Of each series of a panel, how many rows have been seen at each cut-off, ascending, int64 [W].
Cutoffs = Sequence[NDArray[np.int64]]


def cutoffs_of(panel: Panel, protocol: Protocol) -> Cutoffs:
    """The cut-offs of every series.

    Raises:
        EvaluationError: A series is too short for the protocol.
    """
    return [protocol.cutoffs(series.rows) for series in panel.series]


def truths_of(panel: Panel, cutoffs: Cutoffs) -> list[Truth]:
    """One truth for each series and target, series by series."""
    return [
        Truth(series.unique_id, target, series.values[:, at], each)
        for series, each in zip(panel.series, cutoffs, strict=True)
        for at, target in enumerate(panel.targets)
    ]


def is_seen(series: Series, targets: Sequence[str], cutoff: int) -> bool:
    """Whether every target has a value before the first cut-off; without, there is nothing to forecast from."""
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
    """Forecasts every window. A model sees what had come up to its cut-off, and what is known of the steps ahead.

    Args:
        model: A quantile forecaster of the panel's targets and covariates.
        panel: The series.
        cutoffs: When to forecast, as often in every series.
        horizon: How many steps ahead.
        context_steps: How many steps before the first cut-off to stream, or more if a target has no value in them;
            None for all.
        progress: Told how many series are done, and of how many.

    Raises:
        EvaluationError: The model does not go with the panel or the horizon.
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
    """Series that are streamed side by side.

    Attributes:
        series: B of them.
        times: The time of each row, int64 [rows] of each series; None if only position counts.
        categories: int64 [B, S].
        targets: How many targets.
        stops: Where each one begins and its cut-offs, int64 [B, W + 1].
        device: Where the model computes.
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
        """Each one's forecasts, float64 [W, horizon, Q, D]."""
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
        """How the sessions stand, from a trace that takes nothing."""
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
        """The times of as many steps from each start, 0 past the end of a series."""
        if self.times is None:
            return None
        times = np.zeros((len(self.times), steps), np.int64)
        for index, (each, at) in enumerate(zip(self.times, start, strict=True)):
            part = each[at : at + steps]
            times[index, : len(part)] = part
        return torch.from_numpy(times).to(self.device)

    def _future(self, cutoffs: NDArray[np.int64], horizon: int) -> Future:
        """What is known of the steps ahead: their times and covariates, nothing else."""
        covariates = None
        if self.series[0].values.shape[1] > self.targets:
            parts = [
                each.values[at : at + horizon, self.targets :] for each, at in zip(self.series, cutoffs, strict=True)
            ]
            covariates = torch.from_numpy(np.stack(parts)).to(self.device)
        return Future(self._times(cutoffs, horizon), covariates)


def _last_seen(series: Series, targets: int, cutoff: int) -> int:
    """The last row before a cut-off from which on every target that has a value has one; -1 if none has."""
    rows = [np.flatnonzero(np.isfinite(column)) for column in series.values[:cutoff, :targets].T]
    return min((int(each[-1]) for each in rows if len(each)), default=-1)


def _pieces(begin: NDArray[np.int64], stop: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Cuts what lies between into pieces: where each series goes on, and for how many steps."""
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
    """Whether they go together although they are not the same: one target may have any name, and time may not count."""
    return not wanted if what == "frequency" else what == "targets" and len(wanted) == len(given) == 1


def _shown(value: str | tuple[str, ...]) -> str:
    return (value if isinstance(value, str) else ", ".join(value)) or "none"
