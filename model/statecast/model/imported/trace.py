"""The result of advancing sessions of an imported network."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ObservationError
from ..layers.cells import Gates, RecurrentLayers, RecurrentState
from ..state import State
from .memory import Memory, Remembered, window_at, zero_state


@dataclass(frozen=True)
class ImportedContext:
    """What forecasts need of N sessions.

    Attributes:
        memory: What the network remembers.
        recent: The recent observations, float64 [N, recent, D + C].
        is_ready: Whether the session has had all inputs that a forecast needs, bool [N].
        statistics: The statistics of the targets so far, float64 [N, 4, D]; None if scales are fixed.
    """

    memory: Memory
    recent: Tensor
    is_ready: Tensor
    statistics: Tensor | None


@dataclass(frozen=True)
class ImportedTrace:
    """The result of advancing B sessions by up to T observations each.

    Attributes:
        state: Each session after its own observations.
        lengths: How many observations each session has taken, int64 [B].
        pit: NaN, since values are not judged, float64 [B, T, D].
    """

    state: State
    lengths: Tensor
    pit: Tensor
    _remembered: Remembered
    _skipped: Tensor
    _taken_before: Tensor
    _rows: Tensor
    _recent_rows: int
    _layers: RecurrentLayers
    _rolls_out: bool
    _statistics: Tensor | None
    _of_windows: Callable[[Tensor], Tensor] | None = None

    def context(self, rows: Tensor, steps: Tensor) -> ImportedContext:
        """Return what forecasts need of sessions after some of their new observations.

        Args:
            rows: Positions of the sessions in the batch, int64 [N].
            steps: How many of its new observations each session has taken, 0 for none, int64 [N].

        Returns:
            The argument `context` of `Imported.forecast`, N rows.

        Raises:
            ObservationError: A step lies beyond its session's observations.
        """
        if bool(((steps < 0) | (steps > self.lengths[rows])).any()):
            raise ObservationError("steps: beyond the observations of this trace")
        inputs = (steps - self._skipped[rows]).clamp(min=0)
        memory = self._remembered.at(self._layers, rows, inputs, whole=self._rolls_out)
        recent = window_at(self._rows[rows], steps, self._recent_rows)
        statistics = None if self._statistics is None else self._statistics[rows, steps]
        return ImportedContext(memory, recent, is_ready(memory, self._taken_before[rows] + inputs), statistics)

    def gates(self, row: int, step: int) -> Gates:
        """Return the cell's gates in one step of one session, `step` counted from 1.

        Raises:
            ObservationError: There are none: the step has no whole input or window, or the hidden state is projected.
        """
        if not 1 <= step <= int(self.lengths[row]):
            raise ObservationError("step: beyond the observations of this trace")
        if self._layers.projection:
            raise ObservationError("gates: not told of a cell whose hidden state is projected")
        inputs, before = step - int(self._skipped[row]), self._remembered.before
        if isinstance(before, Tensor):
            window = torch.cat([before[row], self._remembered.inputs[row]])[max(inputs, 0) :][: before.shape[1]]
            seen = window.unsqueeze(0)
            state = zero_state(self._layers, seen.float())
        else:
            seen = self._remembered.inputs[row : row + 1, : max(inputs, 0)]
            state = RecurrentState(
                before.hidden[row : row + 1], None if before.cell is None else before.cell[row : row + 1]
            )
        if inputs < 1 or bool(seen.isnan().any()):
            raise ObservationError("step: the network has not run yet")
        if self._of_windows is not None:
            seen = self._of_windows(seen)
        with torch.no_grad():
            return self._layers.gates(seen, state)


def is_ready(memory: Memory, taken: Tensor) -> Tensor:
    """Return whether sessions have had all inputs that a forecast needs, bool [N]; taken: their inputs, int64 [N]."""
    return taken > 0 if isinstance(memory, RecurrentState) else taken >= memory.shape[1]
