"""The streaming forecaster: takes observations in, and forecasts from where a session stands."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from .cells import Memory, RecurrentLayers, run_ragged
from .config import ModelConfig
from .digest import digest_of
from .errors import ObservationError
from .features import step_features, step_size
from .head import QuantileHead
from .naive import NaiveForecasters, Statistics
from .state import Part, State, StateLayout

LARGEST_VALUE = 1e30


@dataclass(frozen=True)
class Context:
    """What a forecast needs of N sessions, each as it stood at some step.

    Attributes:
        output: The recurrent layers' output, float32 [N, H].
        window: The last raw values, NaN where missing, float64 [N, W, D].
        statistics: The naive forecasters' statistics, [N, ...].
    """

    output: Tensor
    window: Tensor
    statistics: Statistics

    @property
    def size(self) -> int:
        """How many sessions."""
        return self.output.shape[0]


@dataclass(frozen=True)
class Trace:
    """What came of advancing B sessions by up to T observations each.

    Attributes:
        state: Each session after its own observations.
        lengths: How many observations each has taken, int64 [B].
    """

    state: State
    lengths: Tensor
    _history: Tensor
    _output: Tensor
    _statistics: Statistics

    def context(self, rows: Tensor, steps: Tensor) -> Context:
        """Goes back to how sessions stood after some of their new observations.

        Args:
            rows: Which sessions, int64 [N].
            steps: After how many of its new observations, 0 for before any, int64 [N].

        Returns:
            What `Forecaster.forecast` needs, N rows.

        Raises:
            ObservationError: A step lies beyond its session's observations.
        """
        if bool(((steps < 0) | (steps > self.lengths[rows])).any()):
            raise ObservationError("steps: beyond the observations of this trace")
        windows = self._history.unfold(1, self.state["window"].shape[1], 1)
        return Context(
            self._output[rows, steps], windows[rows, steps].transpose(1, 2), self._statistics.at(rows, steps)
        )


class Forecaster(nn.Module):
    """A recurrent forecaster over any number of sessions.

    In evaluation mode nothing keeps a graph; in training mode `advance` and `forecast` do.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.naive = NaiveForecasters(config)
        self.cell = RecurrentLayers(
            config.cell, len(config.targets) * step_size(self.naive), config.hidden_size, config.layers
        )
        self.head = QuantileHead(config, self.naive)
        self.layout = StateLayout(tuple(_parts(config, self.naive)))

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.head.trust.device

    @property
    def digest(self) -> str:
        """SHA-256 over configuration and weights as they are now, in hexadecimal; a millisecond or more."""
        return digest_of(self.config, self.state_dict())

    def initial_state(self, batch_size: int) -> State:
        """Returns the state of sessions that have seen nothing."""
        return self.layout.initial(batch_size, self.device)

    def advance(self, state: State, values: Tensor, lengths: Tensor | None = None) -> Trace:
        """Takes observations in. Any split of them into calls gives the same state.

        A trace holds the statistics after every step, about 24 bytes for each naive forecaster,
        so bound the batch times the steps of one call.

        Args:
            state: B sessions.
            values: Their next observations, NaN where missing, float64 [B, T, D].
            lengths: How many of its T rows each session takes, int64 [B]; all of them if None.

        Returns:
            The new state, and every state in between.

        Raises:
            ObservationError: A shape or a value is wrong.
            StateError: The state is not one of this model's.
        """
        self.layout.check(state)
        values, lengths = self._checked(state, values, lengths)
        with self._graph():
            history = torch.cat([state["window"], values], dim=1)
            after = self.naive.observe(_statistics(state), history)
            inputs = step_features(self.naive, after, history)
            ragged = bool((lengths != inputs.shape[1]).any())
            output, memory = self._run(state, inputs, lengths if ragged else None)
            ends = _Ends(lengths, inputs.shape[1], ragged)
            advanced = {
                "hidden": memory.hidden,
                **({} if memory.cell is None else {"cell": memory.cell}),
                "window": ends.window(history, self.config.window),
                **_named(ends.statistics(after)),
                "step": state["step"] + lengths,
            }
        return Trace(State(advanced), lengths, history, output, after)

    def context(self, state: State) -> Context:
        """Returns what `forecast` needs of sessions as they stand.

        Raises:
            StateError: The state is not one of this model's.
        """
        self.layout.check(state)
        return Context(state["hidden"][:, -1], state["window"], _statistics(state))

    def forecast(self, context: Context, horizon: int) -> Tensor:
        """Forecasts every step from 1 to the horizon.

        Args:
            context: N sessions, from `context` or `Trace.context`.
            horizon: How many steps ahead, from 1 to the model's horizon.

        Returns:
            Quantiles in the data's own units, never crossing; NaN for a target that has not had a
            value yet. float32 [N, horizon, Q, D].

        Raises:
            ObservationError: The horizon is out of range.
        """
        if not 1 <= horizon <= self.config.horizon:
            raise ObservationError(f"horizon: expected 1 to {self.config.horizon} steps, got {horizon}")
        return self.quantiles(context, torch.arange(1, horizon + 1, device=self.device)).float()

    def quantiles(self, context: Context, steps: Tensor) -> Tensor:
        """Forecasts chosen steps, int64 [S], in full precision; float64 [N, S, Q, D]."""
        with self._graph():
            quantiles = self.head(self.naive, context.statistics, context.window, context.output, steps)
        if not isinstance(quantiles, Tensor):
            raise TypeError("head: expected a tensor")
        return quantiles

    def _run(self, state: State, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Memory]:
        """Runs the recurrent layers; the output [B, T + 1, H] begins with the state's own."""
        memory = Memory(state["hidden"], state.get("cell"))
        if lengths is None:
            output, after = self.cell(inputs, memory)
        else:
            output, after = run_ragged(self.cell, inputs, memory, lengths)
        return torch.cat([state["hidden"][:, -1:], output], dim=1), after

    def _checked(self, state: State, values: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        batch, targets = state.batch_size, len(self.config.targets)
        if values.dim() != 3 or values.shape[0] != batch or values.shape[2] != targets:
            raise ObservationError(f"values: expected shape [{batch}, time, {targets}], got {list(values.shape)}")
        if values.dtype != torch.float64:
            raise ObservationError(f"values: expected float64, got {values.dtype}")
        # NaN compares as false, so this lets missing values through.
        if bool((values.abs() > LARGEST_VALUE).any()):
            raise ObservationError(f"values: must lie within {LARGEST_VALUE:g} or be missing")
        steps = values.shape[1]
        if lengths is None:
            lengths = torch.full((batch,), steps, dtype=torch.int64, device=values.device)
        elif lengths.shape != (batch,) or lengths.dtype != torch.int64:
            raise ObservationError(f"lengths: expected int64 of shape [{batch}]")
        elif bool(((lengths < 0) | (lengths > steps)).any()):
            raise ObservationError(f"lengths: expected 0 to {steps}")
        if steps == 0:
            values = values.new_full((batch, 1, targets), torch.nan)
        return values, lengths

    @contextmanager
    def _graph(self) -> Iterator[None]:
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            yield


@dataclass(frozen=True)
class _Ends:
    """Picks what stands after each row's own length. One step leaves views, which hold on to little."""

    lengths: Tensor
    steps: int
    ragged: bool

    def statistics(self, after: Statistics) -> Statistics:
        if self.steps == 1 and not self.ragged:
            return after.at(slice(None), 1)
        return after.at(torch.arange(len(self.lengths), device=self.lengths.device), self.lengths)

    def window(self, history: Tensor, size: int) -> Tensor:
        """Cuts the last `size` values off, [B, W, D]."""
        if not self.ragged:
            return history[:, self.steps :] if self.steps == 1 else history[:, self.steps :].clone()
        steps = torch.arange(size, device=history.device)
        index = (self.lengths.unsqueeze(1) + steps).unsqueeze(2).expand(-1, -1, history.shape[2])
        return history.gather(1, index)


def _parts(config: ModelConfig, naive: NaiveForecasters) -> Iterator[Part]:
    shape = (config.layers, config.hidden_size)
    yield Part("hidden", shape, "float32")
    if config.cell == "lstm":
        yield Part("cell", shape, "float32")
    yield Part("window", (config.window, len(config.targets)), "float64")
    yield from naive.parts
    yield Part("step", (), "int64")


def _statistics(state: State) -> Statistics:
    return Statistics(*(state[field.name] for field in fields(Statistics)))


def _named(statistics: Statistics) -> dict[str, Tensor]:
    return {field.name: getattr(statistics, field.name) for field in fields(statistics)}
