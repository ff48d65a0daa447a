"""Runs models by kernels, with the arguments and results that they have in torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..classifier import Classifier
from ..contract import Future
from ..errors import ObservationError
from ..forecaster.forecaster import Forecaster
from ..layers.cells import Gates, RecurrentLayers, RecurrentState
from ..state import Standing, State
from .arguments import Doubles, Floats, Whole
from .fused import Fused
from .symbols import FusedSymbols

Step = Callable[[Doubles, int, "slice | Whole"], tuple[Doubles, Doubles, Floats]]
"""Takes chosen sessions, given their rows, one step further: returns rows, pit and the inputs of the layers."""
ALL = slice(None)


@dataclass(frozen=True)
class SteppedTrace:
    """The result of advancing B sessions by up to T observations each, step by step; see `forecaster.trace.Trace`."""

    state: State
    lengths: Tensor
    pit: Tensor
    _before: State
    _rows: Sequence[Doubles]
    _inputs: Sequence[Floats]
    _layers: RecurrentLayers
    _categories: Tensor | None

    def context(self, rows: Tensor, steps: Tensor) -> Standing:
        """Return what forecasts need of sessions after some of their new observations; see `Trace.context`."""
        at, which, lengths = steps.numpy(), rows.numpy(), self.lengths.numpy()
        if np.array_equal(at, lengths) and np.array_equal(which, np.arange(len(lengths))):
            return Standing(self.state, self._categories)
        if ((at < 0) | (at > lengths[which])).any():
            raise ObservationError("steps: beyond the observations of this trace")
        path = np.stack([self._before.rows.numpy(), *self._rows])
        chosen = torch.from_numpy(path[at, which])
        categories = None if self._categories is None else self._categories[rows]
        return Standing(State(None, self.state.layout, chosen), categories)

    def gates(self, row: int, step: int) -> Gates:
        """Return the cell's gates in one step of one session, `step` counted from 1."""
        if not 1 <= step <= int(self.lengths[row]):
            raise ObservationError("step: beyond the observations of this trace")
        inputs = torch.from_numpy(np.stack([each[row] for each in self._inputs[:step]])[None])
        cell = self._before["cell"][row : row + 1] if self._layers.kind == "lstm" else None
        return self._layers.gates(inputs, RecurrentState(self._before["hidden"][row : row + 1], cell))


def run_steps(
    model: Forecaster | Classifier,
    state: State,
    steps: int,
    lengths: Tensor | None,
    categories: Tensor | None,
    step_of: Step,
) -> SteppedTrace:
    """Take sessions up to so many steps further, each its own number of them, int64 [B]; None for all."""
    rows, sessions = state.rows.numpy(), state.batch_size
    own = None if lengths is None else lengths.numpy()
    path: list[Doubles] = []
    inputs: list[Floats] = []
    pit = np.full((sessions, steps, len(model.config.targets)), np.nan)
    for step in range(steps):
        if own is None or (own > step).all():
            rows, pit[:, step], told = step_of(rows, step, ALL)
        else:
            active = np.nonzero(own > step)[0]
            some, pit[active, step], some_told = step_of(rows[active], step, active)
            rows, told = rows.copy(), np.zeros((sessions, some_told.shape[1]), np.float32)
            rows[active], told[active] = some, some_told
        path.append(rows)
        inputs.append(told)
    if lengths is None:
        lengths = torch.full((sessions,), steps, dtype=torch.int64)
    after = State(None, model.layout, torch.from_numpy(rows))
    return SteppedTrace(after, lengths, torch.from_numpy(pit), state, path, inputs, model.cell, categories)


class Stepping:
    """A forecaster's `advance` and `forecast` by kernels, on a CPU."""

    def __init__(self, forecaster: Forecaster) -> None:
        self._model, self._fused, config = forecaster, Fused(forecaster), forecaster.config
        self._targets, self._covariates = len(config.targets), len(config.covariates)
        self._categories = len(config.categories)
        self._landings: Sequence[int] = config.checked_steps[1:] if forecaster.calibrator.adapts else ()

    def advance(
        self, state: State, values: Tensor, lengths: Tensor | None, times: Tensor | None, categories: Tensor | None
    ) -> SteppedTrace:
        """Advance sessions by their next observations, which were checked; see `Forecaster.advance`."""
        given, classes = values.numpy(), self._categories_of(categories, state.batch_size)
        at = None if times is None else times.numpy()

        def step_of(rows: Doubles, step: int, active: slice | Whole) -> tuple[Doubles, Doubles, Floats]:
            now = np.zeros(len(rows), np.int64) if at is None else np.ascontiguousarray(at[active, step])
            taken = given[active, step]
            values, covariates = (
                np.ascontiguousarray(each) for each in (taken[:, : self._targets], taken[:, self._targets :])
            )
            landing = self._landing(now, is_dated=at is not None)
            return self._fused.step(rows, values, covariates, now, landing, classes[active])

        return run_steps(self._model, state, values.shape[1], lengths, categories, step_of)

    def forecast(self, at: Standing, horizon: int, future: Future) -> Tensor:
        """Forecast every step from 1 to the horizon; see `Forecaster.forecast`."""
        rows = at.state.rows.numpy()
        shape = len(rows), horizon
        steps = np.empty(shape, np.int64)
        steps[:] = np.arange(1, horizon + 1)
        times = steps if future.times is None else np.ascontiguousarray(future.times.numpy())
        covariates = np.full((*shape, self._covariates), np.nan)
        if future.covariates is not None and self._covariates:
            covariates[:] = future.covariates.numpy()
        if times.shape != shape:
            raise ObservationError(f"future: expected times of shape {list(shape)}, got {list(times.shape)}")
        told = self._fused.forecast(rows, steps, times, covariates, self._categories_of(at.categories, len(rows)))
        return torch.from_numpy(told)

    def _landing(self, now: Whole, *, is_dated: bool) -> Whole:
        """Return the times of the checked steps after `now` but the first, int64 [N, checks - 1]."""
        landing = np.zeros((len(now), len(self._landings)), np.int64)
        if is_dated:
            for at, step in enumerate(self._landings):
                landing[:, at] = self._model.known.later(torch.from_numpy(now), step).numpy()
        return landing

    def _categories_of(self, categories: Tensor | None, sessions: int) -> Whole:
        if categories is None or not self._categories:
            return np.zeros((sessions, self._categories), np.int64)
        return np.ascontiguousarray(categories.numpy())


class SymbolStepping:
    """A classifier's `advance` and `forecast` by kernels, on a CPU."""

    def __init__(self, classifier: Classifier) -> None:
        self._model = classifier
        self._fused = FusedSymbols(classifier.cell, classifier.layout, classifier.embedding, classifier.emit)

    def advance(self, state: State, symbols: Tensor, lengths: Tensor) -> SteppedTrace:
        """Advance sessions by their next symbols: their rows in the embedding, int64 [B, T]."""
        given = symbols.numpy()

        def step_of(rows: Doubles, step: int, active: slice | Whole) -> tuple[Doubles, Doubles, Floats]:
            after, inputs = self._fused.step(rows, np.ascontiguousarray(given[active, step]))
            return after, np.full((len(rows), 1), np.nan), inputs

        return run_steps(self._model, state, symbols.shape[1], lengths, None, step_of)

    def forecast(self, at: Standing, horizon: int) -> Tensor:
        """Return the probability of each class for the next steps; see `Classifier.forecast`."""
        return torch.from_numpy(self._fused.forecast(at.state.rows.numpy(), horizon, len(self._model.config.classes)))


def fuse(model: Forecaster | Classifier) -> None:
    """Let a model on a CPU run by kernels from now on, with the weights as they are now.

    The first calls compile the kernels, unless they are in numba's cache.
    """
    if isinstance(model, Classifier):
        model.run_by(SymbolStepping(model))
    else:
        model.run_by(Stepping(model))
