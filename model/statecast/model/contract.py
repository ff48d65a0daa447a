"""What a server needs of a model: states in, states and forecasts out."""

from typing import Any, Protocol

import torch
from torch import Tensor

from .config import ModelConfig
from .state import State, StateLayout


class StreamingTrace(Protocol):
    """What came of advancing B sessions by up to T observations each."""

    @property
    def state(self) -> State:
        """Each session after its own observations."""

    def context(self, rows: Tensor, steps: Tensor) -> Any:
        """Goes back to how sessions stood after some of their new observations.

        Args:
            rows: Which sessions, int64 [N].
            steps: After how many of its new observations, 0 for before any, int64 [N].

        Returns:
            What `forecast` of the same model takes, N rows.
        """


class StreamingModel(Protocol):
    """A forecaster over any number of sessions. Any split of observations into calls gives the same state."""

    @property
    def config(self) -> ModelConfig:
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

    def advance(self, state: State, values: Tensor, lengths: Tensor | None = None) -> StreamingTrace:
        """Takes observations in.

        Args:
            state: B sessions.
            values: Their next observations, NaN where missing, float64 [B, T, D].
            lengths: How many of its T rows each session takes, int64 [B]; all of them if None.
        """

    def forecast(self, context: Any, horizon: int) -> Tensor:
        """Forecasts every step from 1 to the horizon, float32 [N, horizon, Q, D].

        Args:
            context: N sessions, from the context of one of its own traces.
            horizon: How many steps ahead, from 1 to the model's horizon.
        """
