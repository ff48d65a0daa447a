"""The result of advancing sessions: their states before each observation and at the end."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ObservationError
from ..inputs.naive import Candidates, Statistics
from ..intervals.calibration import Blocks
from ..layers.cells import Gates, RecurrentLayers, RecurrentState
from ..state import State
from .context import Context


@dataclass(frozen=True)
class Trace:
    """The result of advancing B sessions by up to T observations each.

    Attributes:
        state: Each session after its own observations.
        lengths: How many observations each session has taken, int64 [B].
        pit: The position of each value in the forecast before it, 0 to 1, float64 [B, T, D]. NaN without a forecast or
            a value, or if intervals are not checked.
    """

    state: State
    lengths: Tensor
    pit: Tensor
    _before: RecurrentState
    _inputs: Tensor
    _layers: RecurrentLayers
    _path: "Path"
    _blocks: Blocks | None
    _ended: Statistics

    def context(self, rows: Tensor, steps: Tensor) -> Context:
        """Return what forecasts need of sessions after some of their new observations.

        Args:
            rows: Positions of the sessions in the batch, int64 [N].
            steps: How many of its new observations each session has taken, 0 for none, int64 [N].

        Returns:
            The argument `context` of `Forecaster.forecast`, N rows.

        Raises:
            ObservationError: A step lies beyond its session's observations.
        """
        if torch.equal(steps, self.lengths) and torch.equal(rows, torch.arange(len(rows), device=rows.device)):
            return Context.of(self.state, self._ended, self._path.categories)  # the usual case, without any indexing
        if bool(((steps < 0) | (steps > self.lengths[rows])).any()):
            raise ObservationError("steps: beyond the observations of this trace")
        log_factors = None if self._blocks is None else self._blocks.at(rows, steps)
        return self._path.context(rows, steps, log_factors)

    def gates(self, row: int, step: int) -> Gates:
        """Return the cell's gates in one step of one session, `step` counted from 1."""
        if not 1 <= step <= int(self.lengths[row]):
            raise ObservationError("step: beyond the observations of this trace")
        cell = None if self._before.cell is None else self._before.cell[row : row + 1]
        recurrent = RecurrentState(self._before.hidden[row : row + 1], cell)
        return self._layers.gates(self._inputs[row : row + 1, :step], recurrent)


@dataclass(frozen=True)
class Path:
    """B sessions before each of T observations and at the end.

    Attributes:
        history: The windows, then the observations, float64 [B, W + T, D].
        window: The length of a window.
        output: The recurrent layers' output, float32 [B, T + 1, H].
        statistics: The naive forecasters' statistics, [B, T + 1, ...].
        said: The naive forecasters' forecasts of each observation, [B, T, D, F].
        categories: The static categories, int64 [B, S], or None.
    """

    history: Tensor
    window: int
    output: Tensor
    statistics: Statistics
    said: Candidates
    categories: Tensor | None

    def context(self, rows: Tensor, steps: Tensor, log_factors: Tensor | None = None) -> Context:
        """Return the context of sessions `rows` after `steps` observations, both int64 [N]; log_factors: [N, ...]."""
        return Context(
            self.output[rows, steps],
            self.statistics.at(rows, steps),
            self.history,
            rows,
            steps + self.window,
            log_factors,
            None if self.categories is None else self.categories[rows],
        )

    def before(self, piece: slice) -> Context:
        """Return the context of every session before each observation of a piece of time, session by session."""
        output = self.output[:, piece]
        batch, steps = output.shape[:2]
        at = torch.arange(self.window + piece.start, self.window + piece.stop, device=output.device).repeat(batch)
        rows = torch.arange(batch, device=output.device).repeat_interleave(steps)
        categories = None if self.categories is None else self.categories[rows]
        statistics = self.statistics.at(slice(None), piece).flat()
        return Context(
            output.flatten(0, 1), statistics, self.history, rows, at, None, categories, self.said.piece(piece)
        )


@dataclass(frozen=True)
class Ends:
    """The values after each row's own number of steps. For one step they are views, which keep little memory alive."""

    lengths: Tensor
    steps: int
    ragged: bool

    def statistics(self, after: Statistics) -> Statistics:
        """Pick from statistics [B, T + 1, ...]."""
        if self.steps == 1 and not self.ragged:
            return after.at(slice(None), 1)
        return after.at(torch.arange(len(self.lengths), device=self.lengths.device), self.lengths)

    def pick(self, after: Tensor) -> Tensor:
        """Pick from a tensor [B, T + 1, ...]."""
        return after[torch.arange(len(self.lengths), device=self.lengths.device), self.lengths]

    def window(self, history: Tensor, size: int) -> Tensor:
        """Return the last `size` values, [B, W, D]."""
        if not self.ragged:
            return history[:, self.steps :] if self.steps == 1 else history[:, self.steps :].clone()
        steps = torch.arange(size, device=history.device)
        index = (self.lengths.unsqueeze(1) + steps).unsqueeze(2).expand(-1, -1, history.shape[2])
        return history.gather(1, index)
