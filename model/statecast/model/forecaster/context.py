"""The input of a forecast: sessions, each at some step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..inputs.naive import Candidates, Statistics
from ..intervals.calibration import LOG_FACTORS
from ..state import State


@dataclass(frozen=True)
class Context:
    """N sessions, each at some step.

    Attributes:
        output: The recurrent layers' output, float32 [N, H].
        statistics: The naive forecasters' statistics, [N, ...].
        history: Raw values of B sessions, NaN where missing, float64 [B, S, D].
        rows: The row of `history` of each of the N sessions, int64 [N].
        ends: How many values of that row lie before the next step, int64 [N].
        log_factors: The adaptation of the intervals, float64 [N, D, checks, Q]; None if they do not adapt.
        categories: The static categories, int64 [N, S]; None if all are unknown.
        said: The naive forecasters' forecasts of the wanted steps, [N, S, D, F]; None if not computed yet.
    """

    output: Tensor
    statistics: Statistics
    history: Tensor
    rows: Tensor
    ends: Tensor
    log_factors: Tensor | None
    categories: Tensor | None = None
    said: Candidates | None = None

    @staticmethod
    def of(
        state: State, statistics: Statistics, categories: Tensor | None, said: Candidates | None = None
    ) -> "Context":
        """Return the context of sessions in their current state, given their statistics."""
        window = state["window"]
        rows = torch.arange(len(window), device=window.device)
        ends = torch.full_like(rows, window.shape[1])
        return Context(state["hidden"][:, -1], statistics, window, rows, ends, state.get(LOG_FACTORS), categories, said)

    @property
    def size(self) -> int:
        """The number of sessions."""
        return self.output.shape[0]
