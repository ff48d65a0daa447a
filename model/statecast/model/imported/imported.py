"""A network that was trained elsewhere, as a streaming forecaster: recurrent layers and a head."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..contract import Future
from ..digest import digest_of
from ..errors import ObservationError
from ..layers.cells import RecurrentLayers, RecurrentState
from ..state import Part, State, StateLayout
from .config import ImportedConfig
from .head import ImportedHead
from .inputs import NetworkInputs, running
from .memory import Memory, output_of, remember, window_at
from .trace import ImportedContext, ImportedTrace, is_ready


class Imported(nn.Module):
    """An imported network, for any number of sessions.

    Its state is carried from step to step, or it runs at each step from a zero state over its last inputs, as it was
    trained. Before it has had one input, or a window of them, its quantiles are NaN. In evaluation mode, no gradients
    are recorded.
    """

    def __init__(self, config: ImportedConfig) -> None:
        super().__init__()
        self.config = config
        self.cell = RecurrentLayers(
            config.cell, config.input_size, config.hidden_size, config.layers,
            projection=config.projection, nonlinearity=config.nonlinearity,
        )  # fmt: skip
        self.head = ImportedHead(config)
        self.inputs = None if config.classes else NetworkInputs(config)
        if config.embedding_size:
            self.embedding = nn.Embedding(len(config.classes), config.embedding_size)
        self.layout = StateLayout(tuple(_parts(config)))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

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
    ) -> ImportedTrace:
        """Advance sessions by their next observations. Any split of observations into calls gives the same state.

        Args:
            state: B sessions.
            values: Their next observations: the targets, then the covariates, float64 [B, T, D + C].
            lengths: How many of its T rows each session takes, int64 [B]; None for all rows.
            times: The time of each row, int64 [B, T]; None if the model declares no frequency.
            categories: Ignored.

        Raises:
            ObservationError: A shape is wrong, or a value is one that the model refuses.
            StateError: The state does not fit this model's layout.
        """
        self.layout.check(state)
        values, lengths = self._checked(state, values, lengths)
        config = self.config
        with self._graph():
            if config.missing == "carry":
                values = _carried_forward(torch.cat([state["last"][:, -1:], values], dim=1))[:, 1:]
            rows = torch.cat([state["last"], values], dim=1) if config.recent_rows else values
            skipped = torch.minimum((config.warm_up - state["step"]).clamp(min=0), lengths)
            statistics = self._running(state, rows)
            inputs = self._inputs(rows, times, None if statistics is None else statistics[:, 1:])
            if config.warm_up:
                index = (torch.arange(inputs.shape[1], device=rows.device) + skipped.unsqueeze(1)).clamp(
                    max=max(inputs.shape[1] - 1, 0)
                )
                inputs = inputs.gather(1, index.unsqueeze(2).expand(-1, -1, inputs.shape[2]))
            remembered = remember(self.cell, _memory_of(state), inputs, lengths - skipped)
        advanced = {**_state_of(remembered.after), "step": state["step"] + lengths}
        if config.recent_rows:
            advanced["last"] = window_at(rows, lengths, config.recent_rows)
        if statistics is not None:
            advanced["statistics"] = statistics[torch.arange(len(lengths), device=lengths.device), lengths]
        pit = values.new_full((*values.shape[:2], len(config.targets)), torch.nan)
        after = State({part.name: advanced[part.name] for part in self.layout.parts}, self.layout)
        taken = self._inputs_taken(state)
        return ImportedTrace(
            after, lengths, pit, remembered, skipped, taken, rows, config.recent_rows, self.cell, config.rollout,
            statistics, self._of_windows if config.per_window else None,
        )  # fmt: skip

    def context(self, state: State, categories: Tensor | None = None) -> ImportedContext:
        """Return what `forecast` needs of sessions in their current state; categories are ignored.

        Raises:
            StateError: The state does not fit this model's layout.
        """
        self.layout.check(state)
        memory = _memory_of(state)
        width = len(self.config.targets) + len(self.config.covariates)
        none = torch.empty(state.batch_size, 0, width, dtype=torch.float64, device=self.device)
        ready = is_ready(memory, self._inputs_taken(state))
        return ImportedContext(memory, state.get("last", none), ready, state.get("statistics"))

    def forecast(self, context: ImportedContext, horizon: int, future: Future | None = None) -> Tensor:
        """Forecast every step from 1 to the horizon.

        Args:
            context: N sessions, from `context` or `ImportedTrace.context`.
            horizon: How many steps ahead, from 1 to the model's horizon.
            future: Times and covariates of those steps, which only a network that is fed its own points needs. Its
                forecasts are NaN from where they end, if it refuses missing values.

        Returns:
            Quantiles, float32 [N, horizon, Q, D], or probabilities of classes, float32 [N, horizon, K, 1].

        Raises:
            ObservationError: The horizon is out of range.
        """
        if not 1 <= horizon <= self.config.horizon:
            raise ObservationError(f"horizon: expected 1 to {self.config.horizon} steps, got {horizon}")
        with self._graph():
            if self.config.rollout:
                values = self._rolled_out(context, horizon, future or Future())
            else:
                values = self._told(context.memory, context.recent, context.statistics)[:, :horizon]
        return torch.where(context.is_ready.view(-1, 1, 1, 1), values, torch.nan).float()

    def _told(
        self, memory: Memory, recent: Tensor, statistics: Tensor | None, units: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return what the head tells of the next steps: quantiles [N, h, Q, D], or probabilities [N, h, K, 1].

        `units` scale a window instead of its own.
        """
        if self.config.per_window and self.inputs is not None and isinstance(memory, Tensor):
            units = units or self.inputs.window_units(memory)
            memory = self.inputs.of_windows(memory, units)
        numbers = self.head(output_of(self.cell, memory))
        if self.inputs is None:
            probabilities: Tensor = numbers.softmax(dim=-1)
            return probabilities.transpose(2, 3)
        return self.inputs.restore(self.head.quantiles(numbers), recent, statistics, units)

    def _of_windows(self, windows: Tensor) -> Tensor:
        """Return the inputs of windows that are scaled for themselves, float32 [N, W, I]."""
        if self.inputs is None:
            return windows
        return self.inputs.of_windows(windows, self.inputs.window_units(windows))

    def _rolled_out(self, context: ImportedContext, horizon: int, future: Future) -> Tensor:
        """Feed each point back as the next observation, beside its step's covariates.

        Statistics, and the units of windows that are scaled for themselves, stay as they are.
        """
        memory, recent, statistics, units = context.memory, context.recent, context.statistics, None
        if self.config.per_window and self.inputs is not None and isinstance(memory, Tensor):
            units = self.inputs.window_units(memory)
        width, keep = len(self.config.covariates), self.config.recent_rows
        points: list[Tensor] = []
        for step in range(horizon):
            points.append(self._told(memory, recent, statistics, units))
            if step + 1 < horizon:
                known = points[-1].new_full((len(recent), 1, width), torch.nan)
                if future.covariates is not None:
                    known = future.covariates[:, step : step + 1]
                rows = torch.cat([recent, torch.cat([points[-1].squeeze(2), known], dim=2)], dim=1)
                if self.config.missing == "carry":
                    rows = _carried_forward(rows)
                times = None if future.times is None else future.times[:, step : step + 1]
                inputs = self._inputs(rows, times, None if statistics is None else statistics.unsqueeze(1))
                if self.config.needs_future:
                    inputs = inputs.masked_fill(known.isnan().any(dim=2, keepdim=True), torch.nan)
                memory = remember(self.cell, memory, inputs, inputs.new_ones(len(inputs), dtype=torch.int64)).after
                recent = rows[:, rows.shape[1] - keep :]
        return torch.cat(points, dim=1)

    def _running(self, state: State, rows: Tensor) -> Tensor | None:
        """Return the statistics before the first step and after each, [B, T + 1, 4, D]; None if scales are fixed."""
        if not self.config.causal or self.inputs is None:
            return None
        values = self.inputs.differences(rows)[:, self.config.recent_rows :, : len(self.config.targets)]
        return running(state["statistics"], values)

    def _inputs(self, rows: Tensor, times: Tensor | None, statistics: Tensor | None) -> Tensor:
        """Return the inputs of the steps behind the recent ones, float32 [B, T, I]; missing symbols are all 0."""
        if self.inputs is not None:
            inputs: Tensor = self.inputs(rows, times, statistics)
            return inputs
        symbols = rows[:, self.config.recent_rows :, 0]
        numbers = symbols.nan_to_num(0.0).long()
        count = len(self.config.classes)
        vectors = self.embedding(numbers) if self.config.embedding_size else nn.functional.one_hot(numbers, count)
        return torch.where(symbols.isnan().unsqueeze(-1), 0.0, vectors.float())

    def _inputs_taken(self, state: State) -> Tensor:
        """Return how many inputs the network has had, int64 [B]."""
        return (state["step"] - self.config.warm_up).clamp(min=0)

    def _checked(self, state: State, values: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the values, NaN beyond each session's own, and the lengths, int64 [B]."""
        config = self.config
        batch, steps = state.batch_size, values.shape[1] if values.dim() == 3 else 0
        expected = batch, steps, len(config.targets) + len(config.covariates)
        if values.shape != expected or values.dtype != torch.float64:
            raise ObservationError(
                f"values: expected float64 of shape {list(expected)}, got {values.dtype} of {list(values.shape)}"
            )
        if lengths is None:
            lengths = torch.full((batch,), steps, dtype=torch.int64, device=values.device)
        elif lengths.shape != (batch,) or lengths.dtype != torch.int64:
            raise ObservationError(f"lengths: expected int64 of shape [{batch}]")
        elif bool(((lengths < 0) | (lengths > steps)).any()):
            raise ObservationError(f"lengths: expected 0 to {steps}")
        taken = (torch.arange(steps, device=values.device) < lengths.unsqueeze(1)).unsqueeze(2)
        if not config.takes_missing and bool((values.isnan() & taken).any()):
            raise ObservationError(f"values: {config.name} refuses missing values; import it with another choice")
        values = torch.where(taken, values, torch.nan)
        targets = values[..., : len(config.targets)]
        if bool((targets <= config.lower_bound).any()):
            raise ObservationError(f"values: expected numbers greater than {config.lower_bound:g}")
        count = len(config.classes)
        if count and bool(((targets < 0) | (targets >= count) | (targets.frac().abs() > 0)).any()):
            raise ObservationError(f"values: expected the number of a class, 0 to {count - 1}")
        return values, lengths

    @contextmanager
    def _graph(self) -> Iterator[None]:
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            yield


def _memory_of(state: State) -> Memory:
    return state["window"] if "window" in state else RecurrentState(state["hidden"], state.get("cell"))


def _state_of(memory: Memory) -> dict[str, Tensor]:
    """Return the parts of a state that hold what the network remembers."""
    if isinstance(memory, Tensor):
        return {"window": memory}
    return {"hidden": memory.hidden, **({} if memory.cell is None else {"cell": memory.cell})}


def _carried_forward(rows: Tensor) -> Tensor:
    """Return rows [B, T, X] in which the last value before it stands for each missing one, if there is any."""
    position = torch.arange(rows.shape[1], device=rows.device).view(1, -1, 1)
    latest = torch.where(rows.isnan(), 0, position).cummax(dim=1).values
    return rows.gather(1, latest)


def _parts(config: ImportedConfig) -> Iterator[Part]:
    if config.run_steps:
        yield Part("window", (config.run_steps, config.input_size), "float64" if config.per_window else "float32")
    else:
        yield Part("hidden", (config.layers, config.projection or config.hidden_size), "float32")
        if config.cell == "lstm":
            yield Part("cell", (config.layers, config.hidden_size), "float32")
    if config.recent_rows:
        yield Part("last", (config.recent_rows, len(config.targets) + len(config.covariates)), "float64")
    if config.causal:
        yield Part("statistics", (4, len(config.targets)), "float64")
    yield Part("step", (), "int64")
