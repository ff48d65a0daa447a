"""What a server needs of a model: states in, states and forecasts out."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .config import Category
from .layers.cells import Gates
from .state import State, StateLayout


@dataclass(frozen=True)
class Future:
    """What is known of the steps to forecast of N sessions.

    Attributes:
        times: Their times, int64 [N, horizon]; None if the model declares no frequency.
        covariates: Their covariates, NaN where not known, float64 [N, horizon, C]; None if none is known.
    """

    times: Tensor | None = None
    covariates: Tensor | None = None


class Description(Protocol):
    """What every model's configuration tells, whatever the model."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def version(self) -> str:
        """The model's version."""

    @property
    def cell(self) -> str:
        """The recurrent cell: "lstm", "gru" or "rnn"."""

    @property
    def layers(self) -> int:
        """How many recurrent layers."""

    @property
    def hidden_size(self) -> int:
        """The size of each layer's hidden state."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the D targets."""

    @property
    def covariates(self) -> tuple[str, ...]:
        """The names of the C covariates, whose future is known."""

    @property
    def categories(self) -> tuple[Category, ...]:
        """The S static categories of a session."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The symbols that a value is one of, by number from 0; empty if values are quantities."""

    @property
    def frequency(self) -> str:
        """The time between two steps as a pandas alias; empty if only position counts."""

    @property
    def horizon(self) -> int:
        """The longest forecast, in steps."""

    @property
    def quantile_levels(self) -> tuple[float, ...]:
        """The levels of a forecast's quantiles, ascending; empty if it is probabilities of classes."""

    @property
    def window(self) -> int:
        """How many recent time steps the state keeps as they are."""


class StreamingTrace(Protocol):
    """What came of advancing B sessions by up to T observations each."""

    @property
    def state(self) -> State:
        """Each session after its own observations."""

    @property
    def pit(self) -> Tensor:
        """The probability that the forecast standing before each value gave to values up to it, float64 [B, T, D].

        Half of what it gave to exactly that value counts. NaN where there was no forecast or no value, and from a model
        that does not tell.
        """

    def context(self, rows: Tensor, steps: Tensor) -> Any:
        """Goes back to how sessions stood after some of their new observations.

        Args:
            rows: Which sessions, int64 [N].
            steps: After how many of its new observations, 0 for before any, int64 [N].

        Returns:
            What `forecast` of the same model takes, N rows.
        """

    def gates(self, row: int, step: int) -> Gates:
        """Returns what the cell's gates were in one step of one session, `step` counted from 1."""


class StreamingModel(Protocol):
    """A forecaster over any number of sessions. Any split of observations into calls gives the same state."""

    @property
    def config(self) -> Description:
        """What it takes and gives."""

    @property
    def layout(self) -> StateLayout:
        """The parts of a session's state."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that change with whatever changes its answers."""

    def initial_state(self, batch_size: int) -> State:
        """Returns the state of sessions that have seen nothing."""

    def advance(
        self,
        state: State,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        times: Tensor | None = None,
        categories: Tensor | None = None,
    ) -> StreamingTrace:
        """Takes observations in.

        Args:
            state: B sessions.
            values: Their next observations: the targets, then the covariates, NaN where missing, float64 [B, T, D + C].
            lengths: How many of its T rows each session takes, int64 [B]; all of them if None.
            times: The time of each row, nanoseconds since 1970 in UTC, int64 [B, T]; None if the model declares no
                frequency.
            categories: The sessions' static categories, by position among the model's values from 1, 0 if unknown,
                int64 [B, S]; None if all are.
        """

    def forecast(self, context: Any, horizon: int, future: Future | None = None) -> Tensor:
        """Forecasts every step from 1 to the horizon.

        Args:
            context: N sessions, from the context of one of its own traces.
            horizon: How many steps ahead, from 1 to the model's horizon.
            future: What is known of those steps.

        Returns:
            Quantiles, float32 [N, horizon, Q, D], or probabilities of classes, float32 [N, horizon, K, D].
        """
