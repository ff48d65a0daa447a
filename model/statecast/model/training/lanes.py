"""Read several series in parallel, chunk by chunk from some step on, as the service does."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import ModelConfig
from ..data.panel import Panel, Series
from ..frequency import Frequency

LEAST_LANES, MOST_LANES = 8, 32
WILD_SHARE = 0.005


@dataclass(frozen=True)
class Chunk:
    """The next rows of B lanes, followed by the rows of a horizon.

    Attributes:
        rows: Targets and covariates, NaN where missing or past the end, float64 [B, T + horizon, D + C].
        lengths: How many of the first T rows each lane takes, int64 [B].
        times: The time of each row, int64 [B, T + horizon]; None if the model has no calendar.
        categories: The categories by position among the model's values from 1, 0 if unknown, int64 [B, S].
        fresh: Whether a lane begins a series here, with a new session, bool [B].
        scales: The unit of errors, float64 [B, D].
    """

    rows: Tensor
    lengths: Tensor
    times: Tensor | None
    categories: Tensor
    fresh: Tensor
    scales: Tensor

    def to(self, device: torch.device) -> "Chunk":
        """Move the chunk to a device."""
        times = None if self.times is None else self.times.to(device)
        rows, lengths, categories = self.rows.to(device), self.lengths.to(device), self.categories.to(device)
        return Chunk(rows, lengths, times, categories, self.fresh.to(device), self.scales.to(device))


@dataclass
class _Lane:
    series: int
    at: int
    fresh: bool = True


class Lanes:
    """Endless chunks of a panel's series. Every pass begins each series once, in random order and at a random step.

    Args:
        panel: The panel to read.
        config: The model to train.
        chunk: The number of rows of a chunk.
        seed: The seed of order and starting steps.
    """

    def __init__(self, panel: Panel, config: ModelConfig, chunk: int, seed: int) -> None:
        self._series, self._config, self._chunk = panel.series, config, chunk
        self._rng = np.random.default_rng(seed)
        self._frequency = Frequency.parse(panel.frequency) if config.calendar else None
        self._times = [series.times(self._frequency) for series in panel.series] if self._frequency else None
        self._scales = np.stack([scale_of(series, config) for series in panel.series])
        names = [
            [category.index(value) for category, value in zip(config.categories, series.categories, strict=True)]
            for series in panel.series
        ]
        self._categories = torch.tensor(names, dtype=torch.int64).view(len(names), len(config.categories))
        self.lanes = int(np.clip(len(panel.series), LEAST_LANES, MOST_LANES))
        self._order: list[int] = []

    def __iter__(self) -> Iterator[Chunk]:
        """Yield consecutive chunks."""
        # Lanes start anywhere in their series, so that they do not all begin new series at the same time.
        lanes = [self._begin(anywhere=True) for _ in range(self.lanes)]
        while True:
            yield self._read(lanes)
            lanes = [self._go_on(lane) for lane in lanes]

    def _begin(self, *, anywhere: bool) -> _Lane:
        if not self._order:
            self._order = self._rng.permutation(len(self._series)).tolist()
        series = self._order.pop()
        rows = self._series[series].rows
        # With fewer series than lanes, several lanes read the same series from different steps.
        last = rows - self._chunk if anywhere or len(self._series) < self.lanes else self._chunk
        return _Lane(series, int(self._rng.integers(0, max(1, min(last, rows - 1)))))

    def _go_on(self, lane: _Lane) -> _Lane:
        at = lane.at + self._chunk
        return (
            _Lane(lane.series, at, fresh=False)
            if at < self._series[lane.series].rows - 1
            else self._begin(anywhere=False)
        )

    def _read(self, lanes: list[_Lane]) -> Chunk:
        span = self._chunk + self._config.horizon
        width = self._series[0].values.shape[1]
        rows = np.full((len(lanes), span, width), np.nan)
        times = np.zeros((len(lanes), span), np.int64)
        lengths = []
        for index, lane in enumerate(lanes):
            values = self._series[lane.series].values[lane.at : lane.at + span]
            rows[index, : len(values)] = values
            lengths.append(min(self._chunk, len(values)))
            if self._times is not None:
                known = self._times[lane.series][lane.at : lane.at + span]
                times[index, : len(known)] = known
        series = [lane.series for lane in lanes]
        return Chunk(
            torch.from_numpy(rows),
            torch.tensor(lengths),
            torch.from_numpy(times) if self._times is not None else None,
            self._categories[series],
            torch.tensor([lane.fresh for lane in lanes]),
            torch.from_numpy(self._scales[series]),
        )


def scale_of(series: Series, config: ModelConfig) -> NDArray[np.float64]:
    """Return the unit of errors on a series, the mean error of the seasonal naive forecast, float64 [D].

    It gives series of different sizes the same weight, as in the scaled scores of the evaluation.
    """
    values = series.values[:, : len(config.targets)]
    scales = []
    for column in values.T:
        spread = _spread(column)
        season = next((lag for lag in config.lags if lag < len(column)), 1)
        errors = np.abs(column[season:] - column[:-season])
        known = errors[np.isfinite(errors)]
        # Without a lower bound, a series that repeats itself almost exactly would dominate the loss.
        scales.append(max(float(known.mean()) if len(known) else 0.0, 0.05 * spread) or 1.0)
    return np.array(scales)


def _spread(column: NDArray[np.float64]) -> float:
    """Return the range of a series without extreme values."""
    seen = column[np.isfinite(column)]
    if not len(seen):
        return 0.0
    low, high = np.quantile(seen, [WILD_SHARE, 1 - WILD_SHARE])
    return float(high - low)
