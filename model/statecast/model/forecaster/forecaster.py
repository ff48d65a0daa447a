"""The streaming forecaster: it advances sessions by observations, and forecasts from their current state."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from statecast.v1.limits import MAX_MAGNITUDE

from ..config import ModelConfig
from ..contract import Future, StreamingTrace
from ..digest import digest_of
from ..errors import ObservationError
from ..inputs.features import step_features, step_size, units_of
from ..inputs.known_inputs import KnownInputs
from ..inputs.naive import Candidates, NaiveForecasters, Statistics
from ..intervals.calibration import Adapted, Calibrator, Widening
from ..intervals.pit import ROUNDING_SHARE, share_below
from ..layers.cells import MOST_STEPS, RecurrentLayers, RecurrentState, run_ragged
from ..layers.recorded import Captured
from ..state import Part, Standing, State, StateLayout
from .context import Context
from .head import FLOAT32_RESOLUTION, QuantileHead, within_reach
from .trace import Ends, Path, Trace

# How many forecasts are computed at once to check them against outcomes; each takes some kilobytes.
CHECKS_AT_ONCE = 4096


class Stepping(Protocol):
    """Does the work of a forecaster step by step."""

    def advance(
        self, state: State, values: Tensor, lengths: Tensor | None, times: Tensor | None, categories: Tensor | None
    ) -> StreamingTrace:
        """Advance sessions by their next observations, which were checked; see `Forecaster.advance`."""

    def forecast(self, at: Standing, horizon: int, future: Future) -> Tensor:
        """Forecast every step from 1 to the horizon; see `Forecaster.forecast`."""


class Forecaster(nn.Module):
    """A recurrent forecaster for any number of sessions.

    In evaluation mode, no gradients are recorded and intervals adapt. In training mode, `advance` and `forecast` record
    gradients, and intervals are as the model emits them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.naive = NaiveForecasters(config)
        self.known = KnownInputs(config)
        size = len(config.targets) * step_size(self.naive) + self.known.size + self.known.static_size
        self.cell = RecurrentLayers(config.cell, size, config.hidden_size, config.layers)
        self.head = QuantileHead(config, self.naive, self.known.size, self.known.static_size)
        self.calibrator = Calibrator(config)
        self.layout = StateLayout(tuple(_parts(config, self.naive, self.calibrator)))
        self._captured: Captured | None = None
        self._stepping: Stepping | None = None

    def run_by(self, stepping: Stepping) -> None:
        """From now on, let `stepping` do short stretches of observations and the forecasts after them."""
        self._stepping = stepping

    def seal(self) -> None:
        """Declare the weights final, which makes single steps and forecasts faster."""
        self.eval().requires_grad_(False)
        self._captured = Captured()

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.head.trust.device

    @property
    def digest(self) -> str:
        """SHA-256 over the configuration, the state layout and the current weights, in hexadecimal; not cached."""
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
        """Advance sessions by their next observations. Any split of observations into calls gives the same state.

        A trace holds the statistics after every step, about 24 bytes for each naive forecaster. So callers should limit
        the product of batch and steps in one call.

        The arguments are those of `StreamingModel.advance`: values float64 [B, T, D + C], lengths int64 [B], times
        int64 [B, T], and categories int64 [B, S]. A model that sees the calendar needs times.

        Returns:
            The new state, and every state in between.

        Raises:
            ObservationError: A shape or a value is wrong.
            StateError: The state does not fit this model's layout.
        """
        if self._stepping is None or self.training or values.shape[1] > MOST_STEPS:
            return self.unroll(state, values, lengths, times=times, categories=categories)
        self.layout.check(state)
        if not self._is_plain(state, values, lengths, times):
            self._checked(state, values, lengths, times, categories)
        return self._stepping.advance(state, values, lengths, times if self.config.calendar else None, categories)

    def unroll(
        self,
        state: State,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        times: Tensor | None = None,
        categories: Tensor | None = None,
    ) -> Trace:
        """Do the same as `advance` in torch: all steps at once, with gradients in training mode."""
        self.layout.check(state)
        taken = self._checked(state, values, lengths, times, categories)
        lengths = taken.lengths
        with self._graph():
            before, ragged = RecurrentState(state["hidden"], state.get("cell")), not taken.is_even
            history, inputs, output, recurrent, after, said = self._observed(state, before, taken)
            path = Path(history, self.config.window, output, after, said, taken.categories)
            adapted = self._adapt(state, taken, path)
            pit = self._pit(adapted, taken, path)[:, : values.shape[1]]
            ends = Ends(lengths, inputs.shape[1], ragged)
            ended = ends.statistics(after)
            advanced = {
                "hidden": recurrent.hidden,
                **({} if recurrent.cell is None else {"cell": recurrent.cell}),
                "window": ends.window(history, self.config.window),
                **{part.name: getattr(ended, part.name) for part in self.naive.parts},
                **self._adapted_parts(state, adapted),
                "step": state["step"] + lengths,
            }
        blocks = None if adapted is None else adapted.blocks
        return Trace(State(advanced, self.layout), lengths, pit, before, inputs, self.cell, path, blocks, ended)

    def context(self, state: State, categories: Tensor | None = None) -> Standing:
        """Return what `forecast` needs of sessions in their current state.

        Raises:
            StateError: The state does not fit this model's layout.
        """
        self.layout.check(state)
        return Standing(state, categories)

    def forecast(self, context: Context | Standing, horizon: int, future: Future | None = None) -> Tensor:
        """Forecast every step from 1 to the horizon.

        Args:
            context: N sessions, from `context` or `Trace.context`.
            horizon: How many steps ahead, from 1 to the model's horizon.
            future: Times and covariates of those steps.

        Returns:
            Quantiles in the data's own units, float32 [N, horizon, Q, D]. They never cross, and are NaN for a target
            without values so far.

        Raises:
            ObservationError: The horizon is out of range, or the future does not fit it.
        """
        if not 1 <= horizon <= self.config.horizon:
            raise ObservationError(f"horizon: expected 1 to {self.config.horizon} steps, got {horizon}")
        future = future or Future()
        if self.config.calendar and future.times is None:
            raise ObservationError("future: the times of the steps are needed")
        if isinstance(context, Standing):
            if self._stepping is not None and not self.training:
                return self._stepping.forecast(context, horizon, future)
            context = self._context(context)
        steps = torch.arange(1, horizon + 1, device=self.device)
        quantiles = self.quantiles(context, steps, future)
        with self._graph():
            if context.log_factors is not None:
                quantiles = self.calibrator.widen(quantiles, context.log_factors, steps)
                quantiles = within_reach(quantiles, context.statistics)
            return quantiles.float().contiguous()

    def quantiles(self, context: Context | Standing, steps: Tensor, future: Future | None = None) -> Tensor:
        """Forecast chosen steps, int64 [S] or [N, S], in full precision and before intervals are adapted.

        Returns:
            The quantiles, float64 [N, S, Q, D].
        """
        if isinstance(context, Standing):
            context = self._context(context)
        head = partial(self._head, same_steps=steps.dim() == 1)
        key = "head", steps.shape[-1], steps.dim()
        steps, future = steps.expand(context.size, -1), future or Future()
        arguments: tuple[Any, ...] = (
            context.output, context.history, context.rows, context.ends, context.categories, steps, future.times,
            future.covariates, *(context.said.parts if context.said else (None, None)), *context.statistics.parts,
        )  # fmt: skip
        with self._graph():
            if self._captured is None or self.training:
                return head(*arguments)[0]
            return self._captured.run(key, head, arguments)[0]

    def _head(
        self,
        output: Tensor,
        history: Tensor,
        rows: Tensor,
        ends: Tensor,
        categories: Tensor | None,
        steps: Tensor,
        times: Tensor | None,
        covariates: Tensor | None,
        said: Tensor | None,
        said_known: Tensor | None,
        *statistics: Tensor,
        same_steps: bool,
    ) -> tuple[Tensor]:
        """Do the work of `quantiles` with tensors as arguments; `same_steps` if all sessions have the same steps."""
        candidates = None if said is None or said_known is None else Candidates(said, said_known)
        context = Context(output, Statistics(*statistics), history, rows, ends, None, categories, candidates)
        known = self.known.of_steps(times, covariates, steps.shape)
        static = self._static(categories, steps.shape[0])
        quantiles: Tensor = self.head(self.naive, context, steps, times, known, static, same_steps=same_steps)
        return (quantiles,)

    def _observed(
        self, state: State, before: RecurrentState, taken: "_Taken"
    ) -> tuple[Tensor, Tensor, Tensor, RecurrentState, Statistics, Candidates]:
        """Run the naive forecasters and the recurrent layers over observations.

        Returns:
            The windows followed by the observations; the inputs, outputs and state of the recurrent layers; the naive
            forecasters' statistics, and their forecasts of each observation.
        """
        statistics = self.naive.statistics(state)
        history = torch.cat([state["window"], taken.values], dim=1)
        arguments: tuple[Any, ...] = (
            history, before.hidden, before.cell, taken.covariates, taken.times, taken.categories,
            self.naive.periods(statistics.periods, history, state["step"]), *statistics.parts,
        )  # fmt: skip
        if self._captured is None or self.training or taken.values.shape[1] > 1 or not taken.is_even:
            results = self._observe(*arguments, lengths=None if taken.is_even else taken.lengths)
        else:
            results = self._captured.run("observe", self._observe, arguments)
        inputs, output, hidden, *others = results
        cell = None if before.cell is None else others.pop(0)
        return history, inputs, output, RecurrentState(hidden, cell), Statistics(*others[:-2]), Candidates(*others[-2:])

    def _observe(
        self,
        history: Tensor,
        hidden: Tensor,
        cell: Tensor | None,
        covariates: Tensor | None,
        times: Tensor | None,
        categories: Tensor | None,
        periods: Tensor,
        *statistics: Tensor,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Do the work of `_observed` with tensors as arguments and results."""
        after, said = self.naive.observe(Statistics(*statistics), history, times, periods)
        inputs = self._inputs(after, history, covariates, times, categories)
        output, recurrent = self._run(RecurrentState(hidden, cell), inputs, lengths)
        remembered = [recurrent.hidden] if recurrent.cell is None else [recurrent.hidden, recurrent.cell]
        return (inputs, output, *remembered, *after.parts, *said.parts)

    def _inputs(
        self,
        after: Statistics,
        history: Tensor,
        covariates: Tensor | None,
        times: Tensor | None,
        categories: Tensor | None,
    ) -> Tensor:
        """Return the inputs of the recurrent layers for each observation, float32 [B, T, I]."""
        parts = [step_features(self.naive, after, history)]
        batch, steps = history.shape[0], parts[0].shape[1]
        parts.append(self.known.of_steps(times, covariates, (batch, steps)))
        parts.append(self._static(categories, batch).unsqueeze(1).expand(-1, steps, -1))
        return torch.cat(parts, dim=-1)

    def _context(self, standing: Standing, said: Candidates | None = None) -> Context:
        return Context.of(standing.state, self.naive.statistics(standing.state), standing.categories, said)

    def _static(self, categories: Tensor | None, sessions: int) -> Tensor:
        if not self.config.categories:
            return torch.zeros(sessions, 0, device=self.device)
        if categories is None:
            categories = torch.zeros(sessions, len(self.config.categories), dtype=torch.int64, device=self.device)
        return self.known.of_sessions(categories)

    def _adapt(self, state: State, taken: "_Taken", path: Path) -> Adapted | None:
        """Check the earlier forecasts of each observation, and adapt intervals."""
        if self.training or not self.calibrator.is_on:
            return None

        def issue(rows: Tensor, at: Tensor, ahead: Tensor) -> Tensor:
            parts = zip(*(torch.split(each, CHECKS_AT_ONCE) for each in (rows, at, ahead)), strict=True)
            return torch.cat([self._checked_forecasts(taken, path, *part) for part in parts])

        before = None
        if self.calibrator.adapts:
            before = Widening.of(state)
        return self.calibrator.observe(before, self._standing(state, taken, path), taken.values, taken.lengths, issue)

    def _standing(self, state: State, taken: "_Taken", path: Path) -> Tensor:
        """Return the forecast before each observation, given its time and covariates, float64 [B, T, D, Q]."""
        batch, steps = taken.values.shape[:2]
        size = max(1, CHECKS_AT_ONCE // max(1, batch))
        parts = []
        for start in range(0, steps, size):
            piece = slice(start, min(start + size, steps))
            context = self._context(Standing(state, taken.categories), path.said) if steps == 1 else path.before(piece)
            told = (each if each is None else each[:, piece].flatten(0, 1).unsqueeze(1) for each in taken.told)
            ahead = torch.ones(1, dtype=torch.int64, device=self.device)
            quantiles = self.quantiles(context, ahead, Future(*told))[:, 0]
            parts.append(quantiles.transpose(1, 2).reshape(batch, piece.stop - piece.start, *quantiles.shape[:0:-1]))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _pit(self, adapted: Adapted | None, taken: "_Taken", path: Path) -> Tensor:
        """Return the position of each value in the forecast before it, as issued, [B, T, D]."""
        if adapted is None:
            return taken.values.new_full((), torch.nan).expand(taken.values.shape)
        before = path.statistics.at(slice(None), slice(None, -1))
        # [B, T, D, Q], as one step ahead of each of B x T sessions.
        standing = within_reach(adapted.standing.transpose(2, 3).unsqueeze(2), before)
        units = units_of(self.naive, before)
        rounding = ROUNDING_SHARE * units.scale + FLOAT32_RESOLUTION * taken.values.abs()
        return share_below(standing.squeeze(2).transpose(2, 3), taken.values, self.calibrator.levels, rounding)

    def _checked_forecasts(self, taken: "_Taken", path: Path, rows: Tensor, at: Tensor, ahead: Tensor) -> Tensor:
        """Return forecasts of M sessions after some observations, one step each, without future covariates."""
        times = self._times_ahead(taken.times, rows, at, ahead)
        return self.quantiles(path.context(rows, at), ahead.unsqueeze(1), Future(times))[:, 0]

    def _times_ahead(self, times: Tensor | None, rows: Tensor, at: Tensor, ahead: Tensor) -> Tensor | None:
        """Return the times of the steps `ahead` of sessions after `at` of their observations, int64 [M, 1]."""
        if times is None:
            return None
        landing = times[rows, at - 1]
        for step in self.config.checked_steps[1:]:
            chosen = ahead == step
            landing[chosen] = self.known.later(landing[chosen], step)
        return landing.unsqueeze(1)

    def _adapted_parts(self, state: State, adapted: Adapted | None) -> dict[str, Tensor]:
        if adapted is not None and adapted.after is not None:
            return adapted.after.parts()
        return {part.name: state[part.name] for part in self.calibrator.parts}

    def _run(self, before: RecurrentState, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, RecurrentState]:
        """Run the recurrent layers; the output [B, T + 1, H] begins with that of the state before."""
        if lengths is None:
            output, after = self.cell(inputs, before)
        else:
            output, after = run_ragged(self.cell, inputs, before, lengths)
        return torch.cat([before.hidden[:, -1:], output], dim=1), after

    def _is_plain(self, state: State, values: Tensor, lengths: Tensor | None, times: Tensor | None) -> bool:
        """Return True for the usual observations, which need no further checks."""
        width = len(self.config.targets) + len(self.config.covariates)
        has_shape = values.shape == (state.batch_size, values.shape[1], width) and values.dtype == torch.float64
        is_dated = not self.config.calendar or (
            times is not None and times.shape == values.shape[:2] and times.dtype == torch.int64
        )
        return has_shape and is_dated and lengths is None and not bool((np.abs(values.numpy()) > MAX_MAGNITUDE).any())

    def _checked(
        self, state: State, values: Tensor, lengths: Tensor | None, times: Tensor | None, categories: Tensor | None
    ) -> "_Taken":
        batch, width = state.batch_size, len(self.config.targets) + len(self.config.covariates)
        if values.dim() != 3 or values.shape[0] != batch or values.shape[2] != width:
            raise ObservationError(f"values: expected shape [{batch}, time, {width}], got {list(values.shape)}")
        if values.dtype != torch.float64:
            raise ObservationError(f"values: expected float64, got {values.dtype}")
        # NaN compares as false, so this lets missing values through.
        if bool((values.abs() > MAX_MAGNITUDE).any()):
            raise ObservationError(f"values: must lie within {MAX_MAGNITUDE:g} or be missing")
        steps, is_even = values.shape[1], lengths is None
        if lengths is None:
            lengths = torch.full((batch,), steps, dtype=torch.int64, device=values.device)
        elif lengths.shape != (batch,) or lengths.dtype != torch.int64:
            raise ObservationError(f"lengths: expected int64 of shape [{batch}]")
        elif bool(((lengths < 0) | (lengths > steps)).any()):
            raise ObservationError(f"lengths: expected 0 to {steps}")
        else:
            is_even = bool((lengths == steps).all())
        times = times if self.config.calendar else None
        if self.config.calendar and (times is None or times.shape != values.shape[:2] or times.dtype != torch.int64):
            raise ObservationError(f"times: expected int64 of shape {list(values.shape[:2])}")
        if steps == 0:
            values, is_even = values.new_full((batch, 1, width), torch.nan), False
            times = None if times is None else times.new_zeros(batch, 1)
        targets, covariates = torch.split(values, [len(self.config.targets), len(self.config.covariates)], dim=2)
        return _Taken(targets, covariates if self.config.covariates else None, lengths, is_even, times, categories)

    @contextmanager
    def _graph(self) -> Iterator[None]:
        with torch.set_grad_enabled(self.training and torch.is_grad_enabled()):
            yield


@dataclass(frozen=True)
class _Taken:
    """Checked observations: targets [B, T, D] and covariates [B, T, C]; `is_even` if every session takes T."""

    values: Tensor
    covariates: Tensor | None
    lengths: Tensor
    is_even: bool
    times: Tensor | None
    categories: Tensor | None

    @property
    def told(self) -> tuple[Tensor | None, Tensor | None]:
        """The times and covariates of the observations."""
        return self.times, self.covariates


def _parts(config: ModelConfig, naive: NaiveForecasters, calibrator: Calibrator) -> Iterator[Part]:
    shape = (config.layers, config.hidden_size)
    yield Part("hidden", shape, "float32")
    if config.cell == "lstm":
        yield Part("cell", shape, "float32")
    yield Part("window", (config.window, len(config.targets)), "float64")
    yield from naive.parts
    yield from calibrator.parts
    yield Part("step", (), "int64")
