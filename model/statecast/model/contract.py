"""The interface between server and model: states in, states and forecasts out."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .config import Category
from .layers.cells import Gates
from .state import State, StateLayout

USUAL_HORIZON = 64
"""The number of steps to forecast, unless another is asked for, with a model of any series."""


@dataclass(frozen=True)
class Future:
    """Times and covariates of the steps to forecast, for N sessions.

    Attributes:
        times: The times of the steps, int64 [N, horizon]; None if the model declares no frequency.
        covariates: The covariates of the steps, NaN where not known, float64 [N, horizon, C]; None if none is known.
    """

    times: Tensor | None = None
    covariates: Tensor | None = None


class Description(Protocol):
    """The configuration that every kind of model has."""

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
        """The number of recurrent layers."""

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
        """The symbols that a value can be, by number from 0; empty if values are quantities."""

    @property
    def frequency(self) -> str:
        """The time between two steps as a pandas alias; empty if only position counts."""

    @property
    def horizon(self) -> int:
        """The longest forecast, in steps."""

    @property
    def quantile_levels(self) -> tuple[float, ...]:
        """The levels of a forecast's quantiles, ascending; empty if forecasts are probabilities of classes."""

    @property
    def window(self) -> int:
        """The number of recent time steps that the state keeps unchanged."""

    @property
    def takes_missing(self) -> bool:
        """True if values may be missing."""

    @property
    def needs_future(self) -> bool:
        """True if a forecast needs the covariates of its steps."""

    @property
    def lower_bound(self) -> float:
        """The number that every target's values must exceed; -inf if they may be any."""


class StreamingTrace(Protocol):
    """The result of advancing B sessions by up to T observations each."""

    @property
    def state(self) -> State:
        """Each session after its own observations."""

    @property
    def pit(self) -> Tensor:
        """The probability that the forecast before each value gave to values up to it, float64 [B, T, D].

        The probability of exactly that value counts half. NaN without a forecast or a value, and from models that do
        not judge values.
        """

    def context(self, rows: Tensor, steps: Tensor) -> Any:
        """Return what forecasts need of sessions after some of their new observations.

        Args:
            rows: Positions of the sessions in the batch, int64 [N].
            steps: How many of its new observations each session has taken, 0 for none, int64 [N].

        Returns:
            The argument `context` of the same model's `forecast`, N rows.
        """

    def gates(self, row: int, step: int) -> Gates:
        """Return the cell's gates in one step of one session, `step` counted from 1."""


class StreamingModel(Protocol):
    """A forecaster for any number of sessions. Any split of observations into calls gives the same state."""

    @property
    def config(self) -> Description:
        """The model's configuration."""

    @property
    def layout(self) -> StateLayout:
        """The parts of a session's state."""

    @property
    def device(self) -> torch.device:
        """The device that computes."""

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that change with everything that changes the model's answers."""

    def initial_state(self, batch_size: int) -> State:
        """Return the state of sessions without observations."""

    def advance(
        self,
        state: State,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        times: Tensor | None = None,
        categories: Tensor | None = None,
    ) -> StreamingTrace:
        """Advance sessions by their next observations.

        Args:
            state: B sessions.
            values: Their next observations: the targets, then the covariates, NaN where missing, float64 [B, T, D + C].
            lengths: How many of its T rows each session takes, int64 [B]; None for all rows.
            times: The time of each row, nanoseconds since 1970 in UTC, int64 [B, T]; None if the model declares no
                frequency.
            categories: The sessions' static categories, by position among the model's values from 1, 0 if unknown,
                int64 [B, S]; None if all are unknown.
        """

    def context(self, state: State, categories: Tensor | None = None) -> Any:
        """Return what forecasts need of sessions in their current state.

        Args:
            state: N sessions.
            categories: Their static categories, int64 [N, S], 0 where unknown; None if all are unknown.

        Returns:
            The argument `context` of `forecast`, N rows.

        Raises:
            StateError: The state does not fit this model's layout.
        """

    def forecast(self, context: Any, horizon: int, future: Future | None = None) -> Tensor:
        """Forecast every step from 1 to the horizon.

        Args:
            context: N sessions, from `context` of one of this model's traces.
            horizon: How many steps ahead, from 1 to the model's horizon.
            future: Times and covariates of those steps.

        Returns:
            Quantiles, float32 [N, horizon, Q, D], or probabilities of classes, float32 [N, horizon, K, D].
        """


def usual_horizon(config: Description) -> int:
    """Return the number of steps to forecast unless another is asked for; a model of any series can do far more."""
    return min(config.horizon, USUAL_HORIZON) if getattr(config, "periods", 0) else config.horizon
