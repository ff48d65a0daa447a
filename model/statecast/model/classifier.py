"""A streaming forecaster of symbols: takes them in one by one, and gives the probability of each to come next."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from .config import Category, StoredConfig
from .contract import Future
from .digest import digest_of
from .errors import ConfigError, ObservationError
from .layers.cells import Gates, RecurrentLayers, RecurrentState, run_ragged
from .state import Part, State, StateLayout

LONGEST_CLASS = 256
# A class is shown in messages and pictures; these two are the only ones that text is full of and that do not print.
_UNPRINTABLE_CLASSES = ("\n", "\t")
_MOST_PROBABILITIES = 100_000


@dataclass(frozen=True)
class ClassifierConfig(StoredConfig):
    r"""The configuration of a model of symbols, checked when it is made.

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
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ConfigError("classes: expected two or more different symbols")
        for symbol in self.classes:
            if symbol in _UNPRINTABLE_CLASSES:
                continue
            if not 1 <= len(symbol) <= LONGEST_CLASS or not symbol.isprintable():
                raise ConfigError(
                    f"classes: expected 1 to {LONGEST_CLASS} printable characters, a newline or a tab, got {symbol!r}"
                )
        if self.horizon * len(self.classes) > _MOST_PROBABILITIES:
            raise ConfigError(f"horizon: times classes, at most {_MOST_PROBABILITIES}")

    @property
    def targets(self) -> tuple[str, ...]:
        """One, the symbol itself."""
        return ("symbol",)

    @property
    def covariates(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def categories(self) -> tuple[Category, ...]:
        """None."""
        return ()

    @property
    def frequency(self) -> str:
        """None: only position counts."""
        return ""

    @property
    def quantile_levels(self) -> tuple[float, ...]:
        """None: forecasts are probabilities of classes."""
        return ()

    @property
    def window(self) -> int:
        """0: all that the state keeps of the past is what the cell remembers."""
        return 0

    def numbers(self, symbols: Iterable[str]) -> Tensor:
        """Returns the numbers of symbols as the model takes them, float64 [symbols].

        Raises:
            ObservationError: A symbol is none of the classes.
        """
        by_symbol = {symbol: number for number, symbol in enumerate(self.classes)}
        try:
            return torch.tensor([by_symbol[symbol] for symbol in symbols], dtype=torch.float64)
        except KeyError as error:
            raise ObservationError(f"symbols: {error.args[0]!r} is none of the {len(self.classes)} classes") from error


@dataclass(frozen=True)
class SymbolTrace:
    """What came of advancing B sessions by up to T symbols each.

    Attributes:
        state: Each session after its own symbols.
        lengths: How many each has taken, int64 [B].
        outputs: What the recurrent layers gave before the first symbol and after each one, 0 beyond a session's own,
            float32 [B, T + 1, H].
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
        """Goes back to how sessions stood after some of their new symbols.

        Args:
            rows: Which sessions, int64 [N].
            steps: After how many of its new symbols, 0 for before any, int64 [N].

        Returns:
            What `Classifier.forecast` needs, float32 [N, H].

        Raises:
            ObservationError: A step lies beyond its session's symbols.
        """
        if bool(((steps < 0) | (steps > self.lengths[rows])).any()):
            raise ObservationError("steps: beyond the observations of this trace")
        return self.outputs[rows, steps]

    def gates(self, row: int, step: int) -> Gates:
        """Returns what the cell's gates were in one step of one session, `step` counted from 1."""
        if not 1 <= step <= int(self.lengths[row]):
            raise ObservationError("step: beyond the observations of this trace")
        cell = None if self._before.cell is None else self._before.cell[row : row + 1]
        recurrent = RecurrentState(self._before.hidden[row : row + 1], cell)
        with torch.no_grad():
            return self._layers.gates(self._inputs[row : row + 1, :step], recurrent)


class Classifier(nn.Module):
    """A recurrent model of symbols over any number of sessions.

    A missing symbol, NaN, is an input of its own. In evaluation mode nothing keeps a graph.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(len(config.classes) + 1, config.hidden_size)
        self.cell = RecurrentLayers(config.cell, config.hidden_size, config.hidden_size, config.layers)
        self.emit = nn.Linear(config.hidden_size, config.horizon * len(config.classes))
        self.layout = StateLayout(tuple(_parts(config)))

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.emit.weight.device

    @property
    def digest(self) -> str:
        """SHA-256 over configuration, state layout and weights as they are now, in hexadecimal."""
        return digest_of(self.config, self.layout, self.state_dict())

    def initial_state(self, batch_size: int) -> State:
        """Returns the state of sessions that have seen nothing."""
        return self.layout.initial(batch_size, self.device)

    def advance(
        self,
        state: State,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        times: Tensor | None = None,
        categories: Tensor | None = None,
    ) -> SymbolTrace:
        """Takes symbols in. Any split of them into calls gives the same state.

        Args:
            state: B sessions.
            values: The numbers of their next symbols, NaN where missing, float64 [B, T, 1].
            lengths: How many of its T symbols each session takes, int64 [B]; all of them if None.
            times: Of no use to this model.
            categories: Of no use to this model.

        Returns:
            The new state, and every state in between.

        Raises:
            ObservationError: A shape is wrong, or a value is not the number of a class.
            StateError: The state is not one of this model's.
        """
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
        return SymbolTrace(State(advanced), lengths, outputs, before, inputs, self.cell)

    def context(self, state: State) -> Tensor:
        """Returns what `forecast` needs of sessions as they stand, float32 [N, H].

        Raises:
            StateError: The state is not one of this model's.
        """
        self.layout.check(state)
        return state["hidden"][:, -1]

    def forecast(self, context: Tensor, horizon: int, future: Future | None = None) -> Tensor:
        """Forecasts every step from 1 to the horizon.

        Args:
            context: N sessions, from `context` or `SymbolTrace.context`, float32 [N, H].
            horizon: How many steps ahead, from 1 to the model's horizon.
            future: Of no use to this model.

        Returns:
            The probability of each class; those of a step add up to 1. float32 [N, horizon, K, 1].

        Raises:
            ObservationError: The horizon is out of range.
        """
        if not 1 <= horizon <= self.config.horizon:
            raise ObservationError(f"horizon: expected 1 to {self.config.horizon} steps, got {horizon}")
        with self._graph():
            return self.logits(context)[:, :horizon].softmax(dim=-1).unsqueeze(-1)

    def logits(self, outputs: Tensor) -> Tensor:
        """The unnormalised log-probabilities of every step ahead.

        Args:
            outputs: What the recurrent layers gave, float32 [..., H].

        Returns:
            float32 [..., horizon, K].
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
        """The symbols' rows in the embedding, int64 [B, T], and the lengths, int64 [B]."""
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
