"""A streaming forecaster of symbols: takes symbols one by one and returns the probability of each as the next one."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from .config import Category, StoredConfig
from .contract import Future, StreamingTrace
from .digest import digest_of
from .errors import ConfigError, ObservationError
from .layers.cells import MOST_STEPS, Gates, RecurrentLayers, RecurrentState, run_ragged
from .state import Part, Standing, State, StateLayout

LONGEST_CLASS = 256
# Messages and pictures show classes. These two are the only unprintable characters that are common in text.
_UNPRINTABLE_CLASSES = ("\n", "\t")
_MOST_PROBABILITIES = 100_000


def check_classes(classes: tuple[str, ...]) -> None:
    """Raise ConfigError unless there are two or more different symbols that can be shown."""
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ConfigError("classes: expected two or more different symbols")
    for symbol in classes:
        if symbol in _UNPRINTABLE_CLASSES:
            continue
        if not 1 <= len(symbol) <= LONGEST_CLASS or not symbol.isprintable():
            raise ConfigError(
                f"classes: expected 1 to {LONGEST_CLASS} printable characters, a newline or a tab, got {symbol!r}"
            )


@dataclass(frozen=True)
class ClassifierConfig(StoredConfig):
    r"""The configuration of a model of symbols, checked on creation.

    Attributes:
        classes: The symbols by number from 0: two or more different texts of 1 to 256 printable characters, or "\n" or
            "\t".
        horizon: The longest forecast, in steps.
    """

    KIND: ClassVar[str] = "classifier"

    classes: tuple[str, ...] = ()
    horizon: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_classes(self.classes)
        if self.horizon * len(self.classes) > _MOST_PROBABILITIES:
            raise ConfigError(f"horizon: times classes, at most {_MOST_PROBABILITIES}")

    @property
    def targets(self) -> tuple[str, ...]:
        """The symbol itself, the only target."""
        return ("symbol",)

    @property
    def covariates(self) -> tuple[str, ...]:
        """Empty: symbols have no covariates."""
        return ()

    @property
    def categories(self) -> tuple[Category, ...]:
        """Empty: symbols have no categories."""
        return ()

    @property
    def frequency(self) -> str:
        """Empty: only position counts."""
        return ""

    @property
    def quantile_levels(self) -> tuple[float, ...]:
        """Empty: forecasts are probabilities of classes."""
        return ()

    @property
    def window(self) -> int:
        """0: the state keeps no past symbols, only the cell's memory."""
        return 0

    def numbers(self, symbols: Iterable[str]) -> Tensor:
        """Return the numbers of symbols, as `Classifier.advance` takes them, float64 [symbols].

        Raises:
            ObservationError: A symbol is not one of the classes.
        """
        by_symbol = {symbol: number for number, symbol in enumerate(self.classes)}
        try:
            return torch.tensor([by_symbol[symbol] for symbol in symbols], dtype=torch.float64)
        except KeyError as error:
            raise ObservationError(f"symbols: {error.args[0]!r} is none of the {len(self.classes)} classes") from error


@dataclass(frozen=True)
class SymbolTrace:
    """The result of advancing B sessions by up to T symbols each.

    Attributes:
        state: Each session after its own symbols.
        lengths: How many symbols each session has taken, int64 [B].
        outputs: The output of the recurrent layers before the first symbol and after each one, float32 [B, T + 1, H];
            0 beyond a session's own symbols.
    """

    state: State
    lengths: Tensor
    outputs: Tensor
    _before: RecurrentState
    _inputs: Tensor
    _layers: RecurrentLayers

    @property
    def pit(self) -> Tensor:
        """NaN, since symbols have no order, float64 [B, T, 1]."""
        batch, after, _ = self.outputs.shape
        return torch.full((batch, after - 1, 1), torch.nan, dtype=torch.float64, device=self.outputs.device)

    def context(self, rows: Tensor, steps: Tensor) -> Tensor:
        """Return what forecasts need of sessions after some of their new symbols.

        Args:
            rows: Positions of the sessions in the batch, int64 [N].
            steps: How many of its new symbols each session has taken, 0 for none, int64 [N].

        Returns:
            The argument `context` of `Classifier.forecast`, float32 [N, H].

        Raises:
            ObservationError: A step lies beyond its session's symbols.
        """
        if bool(((steps < 0) | (steps > self.lengths[rows])).any()):
            raise ObservationError("steps: beyond the observations of this trace")
        return self.outputs[rows, steps]

    def gates(self, row: int, step: int) -> Gates:
        """Return the cell's gates in one step of one session, `step` counted from 1."""
        if not 1 <= step <= int(self.lengths[row]):
            raise ObservationError("step: beyond the observations of this trace")
        cell = None if self._before.cell is None else self._before.cell[row : row + 1]
        recurrent = RecurrentState(self._before.hidden[row : row + 1], cell)
        with torch.no_grad():
            return self._layers.gates(self._inputs[row : row + 1, :step], recurrent)


class SymbolStepping(Protocol):
    """Does the work of a classifier step by step."""

    def advance(self, state: State, symbols: Tensor, lengths: Tensor) -> StreamingTrace:
        """Advance sessions by their next symbols: their rows in the embedding, int64 [B, T]."""

    def forecast(self, at: Standing, horizon: int) -> Tensor:
        """Return the probability of each class for the next steps; see `Classifier.forecast`."""


class Classifier(nn.Module):
    """A recurrent model of symbols for any number of sessions.

    A missing symbol (NaN) has its own embedding. In evaluation mode, no gradients are recorded.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(len(config.classes) + 1, config.hidden_size)
        self.cell = RecurrentLayers(config.cell, config.hidden_size, config.hidden_size, config.layers)
        self.emit = nn.Linear(config.hidden_size, config.horizon * len(config.classes))
        self.layout = StateLayout(tuple(_parts(config)))
        self._stepping: SymbolStepping | None = None

    def run_by(self, stepping: SymbolStepping) -> None:
        """From now on, let `stepping` do short stretches of symbols and the forecasts after them."""
        self._stepping = stepping

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.emit.weight.device

    @property
    def digest(self) -> str:
        """SHA-256 over the configuration, the state layout and the current weights, in hexadecimal."""
        return digest_of(self.config, self.layout, self.state_dict())

    def initial_state(self, batch_size: int) -> State:
        """Return the state of sessions without observations."""
        return self.layout.initial(batch_size, self.device)

    def advance(
        self,
        state: State,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        times: Tensor | None = None,
        categories: Tensor | None = None,
    ) -> StreamingTrace:
        """Advance sessions by their next symbols. Any split of symbols into calls gives the same state.

        Args:
            state: B sessions.
            values: The numbers of their next symbols, NaN where missing, float64 [B, T, 1].
            lengths: How many of its T symbols each session takes, int64 [B]; None for all.
            times: Ignored.
            categories: Ignored.

        Returns:
            The new state, and every state in between.

        Raises:
            ObservationError: A shape is wrong, or a value is not the number of a class.
            StateError: The state does not fit this model's layout.
        """
        if self._stepping is None or self.training or values.shape[1] > MOST_STEPS:
            return self.unroll(state, values, lengths)
        self.layout.check(state)
        return self._stepping.advance(state, *self._checked(state, values, lengths))

    def unroll(self, state: State, values: Tensor, lengths: Tensor | None = None) -> SymbolTrace:
        """Do the same as `advance` in torch: all steps at once, with gradients in training mode."""
        self.layout.check(state)
        symbols, lengths = self._checked(state, values, lengths)
        with self._graph():
            before = RecurrentState(state["hidden"], state.get("cell"))
            inputs = self.embedding(symbols)
            output, after = self._run(before, inputs, lengths)
            advanced = {
                "hidden": after.hidden,
                **({} if after.cell is None else {"cell": after.cell}),
                "step": state["step"] + lengths,
            }
            outputs = torch.cat([before.hidden[:, -1:], output], dim=1)
        return SymbolTrace(State(advanced, self.layout), lengths, outputs, before, inputs, self.cell)

    def context(self, state: State, categories: Tensor | None = None) -> Standing:
        """Return what `forecast` needs of sessions in their current state; categories are ignored.

        Raises:
            StateError: The state does not fit this model's layout.
        """
        self.layout.check(state)
        return Standing(state)

    def forecast(self, context: Tensor | Standing, horizon: int, future: Future | None = None) -> Tensor:
        """Forecast every step from 1 to the horizon.

        Args:
            context: N sessions, from `context` or a trace; or the output of the recurrent layers, float32 [N, H].
            horizon: How many steps ahead, from 1 to the model's horizon.
            future: Ignored.

        Returns:
            The probability of each class, float32 [N, horizon, K, 1]; they add up to 1 at each step.

        Raises:
            ObservationError: The horizon is out of range.
        """
        if not 1 <= horizon <= self.config.horizon:
            raise ObservationError(f"horizon: expected 1 to {self.config.horizon} steps, got {horizon}")
        if isinstance(context, Standing):
            if self._stepping is not None and not self.training:
                return self._stepping.forecast(context, horizon)
            context = context.state["hidden"][:, -1]
        with self._graph():
            return self.logits(context)[:, :horizon].softmax(dim=-1).unsqueeze(-1)

    def logits(self, outputs: Tensor) -> Tensor:
        """Return the unnormalised log-probabilities of every step ahead.

        Args:
            outputs: The output of the recurrent layers, float32 [..., H].

        Returns:
            Log-probabilities up to a constant, float32 [..., horizon, K].
        """
        emitted: Tensor = self.emit(outputs)
        return emitted.view(*outputs.shape[:-1], self.config.horizon, len(self.config.classes))

    def _run(self, before: RecurrentState, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, RecurrentState]:
        if inputs.shape[1] == 0:
            return inputs, before
        if bool((lengths == inputs.shape[1]).all()):
            output, after = self.cell(inputs, before)
            return output, after
        return run_ragged(self.cell, inputs, before, lengths)

    def _checked(self, state: State, values: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the symbols' rows in the embedding, int64 [B, T], and the lengths, int64 [B]."""
        batch, steps = state.batch_size, values.shape[1] if values.dim() == 3 else 0
        if values.shape != (batch, steps, 1):
            raise ObservationError(f"values: expected shape [{batch}, time, 1], got {list(values.shape)}")
        if values.dtype != torch.float64:
            raise ObservationError(f"values: expected float64, got {values.dtype}")
        if lengths is None:
            lengths = torch.full((batch,), steps, dtype=torch.int64, device=values.device)
        elif lengths.shape != (batch,) or lengths.dtype != torch.int64:
            raise ObservationError(f"lengths: expected int64 of shape [{batch}]")
        elif bool(((lengths < 0) | (lengths > steps)).any()):
            raise ObservationError(f"lengths: expected 0 to {steps}")
        classes = len(self.config.classes)
        taken = torch.arange(steps, device=values.device) < lengths.unsqueeze(1)
        numbers = torch.where(taken, values.squeeze(2), torch.nan)
        # NaN compares as false, so this lets missing values through.
        if bool(((numbers < 0) | (numbers >= classes) | (numbers.frac().abs() > 0)).any()):
            raise ObservationError(f"values: expected the number of a class, 0 to {classes - 1}, or missing")
        return torch.where(numbers.isnan(), float(classes), numbers).long(), lengths

    @contextmanager
    def _graph(self) -> Iterator[None]:
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            yield


def _parts(config: ClassifierConfig) -> Iterator[Part]:
    shape = (config.layers, config.hidden_size)
    yield Part("hidden", shape, "float32")
    if config.cell == "lstm":
        yield Part("cell", shape, "float32")
    yield Part("step", (), "int64")
