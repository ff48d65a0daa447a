"""Follows one session from its record: recent values, how they lay in the forecasts before them, and the next forecast.

It computes on copies, outside the engine. The session in Redis and those in memory stay as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from statecast.model import Future, State, StreamingTrace
from statecast.model.intervals.pit import share_below
from statecast.service.engine.clock import times_up_to
from statecast.service.engine.forecasts import Wanted, forecasts
from statecast.service.engine.inputs import Inputs, categories_of, traces
from statecast.service.engine.request import ForecastOutput, Request
from statecast.service.engine.session_loading import Loaded
from statecast.service.engine.standing import Standing
from statecast.service.models.registry import Model
from statecast.service.version import START, Version, chain

MOST_POINTS, LEAST_POINTS = 2000, 64
"""Steps of a session that are kept."""
MOST_NUMBERS = 400_000
"""Numbers of a session that are kept, which may allow fewer steps."""
MOST_JUDGED = 256
"""Most steps at once that get the forecasts before them; each costs as much as a forecast."""
LONGEST_FORECAST = 256
STEPS_AT_ONCE = 1024
MEMORIES = ("hidden", "cell", "window")
"""Parts of a state that a network remembers itself: its memory, or its last inputs."""


@dataclass(frozen=True, eq=False)
class Points:
    """N consecutive steps of a session, the first of them counted from 1.

    Attributes:
        first: Number of the first step.
        instants: Their times in nanoseconds since 1970, int64 [N]; None if only position counts.
        values: Targets, NaN where missing, float64 [N, D].
        surprise: Position of each value in the forecast before it; for symbols, the probability that they had.
            NaN without a forecast, float64 [N, D].
        before: Quantiles that were forecast one step before, NaN where unknown, float32 [N, Q, D].
    """

    first: int
    instants: NDArray[np.int64] | None
    values: NDArray[np.float64]
    surprise: NDArray[np.float64]
    before: NDArray[np.float32]

    @property
    def last(self) -> int:
        """Number of the last step."""
        return self.first + len(self.values) - 1

    def since(self, step: int) -> "Points":
        """Return the steps after `step`."""
        at = max(0, step + 1 - self.first)
        instants = None if self.instants is None else self.instants[at:]
        return Points(self.first + at, instants, self.values[at:], self.surprise[at:], self.before[at:])

    def then(self, later: "Points") -> "Points":
        """Return these steps and those that follow them, as many as are kept."""
        instants = None
        if self.instants is not None and later.instants is not None:
            instants = np.concatenate([self.instants, later.instants])
        joined = Points(
            self.first, instants, np.concatenate([self.values, later.values]),
            np.concatenate([self.surprise, later.surprise]), np.concatenate([self.before, later.before]),
        )  # fmt: skip
        return joined.since(joined.last - self.most)

    @property
    def most(self) -> int:
        """Number of steps that are kept."""
        _, levels, targets = self.before.shape
        numbers = int(targets * (levels + 2))
        return max(LEAST_POINTS, min(MOST_POINTS, MOST_NUMBERS // numbers))


@dataclass(frozen=True, eq=False)
class View:
    """A session as it stood when it was read.

    Attributes:
        epoch: Changes if the steps do not continue those of the view before.
        standing: The session's standing; None if it cannot be shown.
        points: Its recent steps.
        forecast: Its forecast; None if it has none.
        note: Why it has no forecast; empty if it has one.
        memory: Parts of its state, float32 [rows, columns], by name.
        problem: Why it cannot be shown, or why it may have moved on since; empty if nothing is wrong.
        is_gone: True if the session does not exist any more.
    """

    epoch: int = 0
    standing: Standing | None = None
    points: Points | None = None
    forecast: ForecastOutput | None = None
    note: str = ""
    memory: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    problem: str = ""
    is_gone: bool = False


class Follower:
    """Follows one session. Not thread-safe."""

    def __init__(self) -> None:
        self._epoch = 0
        self._digest = ""
        self._version: Version = START
        self._state: State | None = None
        self._points: Points | None = None

    def follow(self, loaded: Loaded) -> View:
        """Return the session's view after what was loaded, which must hold a session."""
        if loaded.session is None:
            raise ValueError("there is no session to follow")
        standing = loaded.session.standing
        state, new = self._advance(loaded, standing)
        if self._points is None:
            self._epoch += 1
            self._points = new.since(new.last - new.most)
        elif len(new.values):
            self._points = self._points.then(new)
        self._digest, self._version, self._state = standing.model.digest, standing.version, state
        forecast, note = _forecast(standing, state)
        memory = {
            name: part[0].cpu().numpy().copy()  # a view of the state would move on with it
            for name in MEMORIES
            if (part := state.get(name)) is not None and part.dtype == torch.float32
        }
        return View(self._epoch, standing, self._points, forecast, note, memory)

    def _advance(self, loaded: Loaded, standing: Standing) -> tuple[State, Points]:
        """Return the session's state, and the steps to add to those known; forget these unless the new ones follow."""
        model = standing.model
        rows = np.frombuffer(loaded.replay, "<f8").reshape(-1, model.width)
        at_snapshot = standing.version.step - len(rows)
        known, is_known = self._version.step, self._digest == model.digest and self._points is not None
        if is_known and self._state is not None and at_snapshot <= known <= standing.version.step:
            later = rows[known - at_snapshot :]
            if chain(self._version, later, _times(standing, len(later))) == standing.version:
                return _taken(standing, self._state, later)
            is_known = False
        is_known = is_known and known <= at_snapshot and not standing.has_lost(self._version)
        state = model.forecaster.layout.unpack([loaded.state], model.forecaster.device)
        history = _recent(model, state)[-at_snapshot:] if at_snapshot else np.empty((0, model.targets))
        if is_known and at_snapshot - len(history) <= known:
            history = history[len(history) - (at_snapshot - known) :]
        else:
            self._points = None
        return _taken(standing, state, rows, history)


def _taken(
    standing: Standing, state: State, rows: NDArray[np.float64], history: NDArray[np.float64] | None = None
) -> tuple[State, Points]:
    """Take the session's last rows [N, D + C]; return its state, and the steps of `history` and of these rows."""
    model = standing.model
    targets, levels = model.targets, len(model.config.quantile_levels)
    history = np.empty((0, targets)) if history is None else history
    values = np.concatenate([history, rows[:, :targets]])
    surprise = np.full(values.shape, np.nan)
    before = np.full((len(values), levels, targets), np.nan, np.float32)
    if len(rows):
        inputs = Inputs.of(
            model, [len(rows)], [rows.tobytes()], [standing.last_time], categories_of(model, [standing.categories])
        )
        for start, trace, pit in traces(model, state, inputs, STEPS_AT_ONCE):
            at = len(history) + start
            surprise[at : at + pit.shape[1]] = pit[0]
            first = max(start, len(rows) - MOST_JUDGED)
            if first < start + pit.shape[1]:
                part = inputs.part(start, STEPS_AT_ONCE)
                judged = slice(len(history) + first, at + pit.shape[1])
                _judge(model, trace, part, first - start, before[judged], surprise[judged])
            state = trace.state
    return state, Points(
        standing.version.step - len(values) + 1, _instants(standing, len(values)), values, surprise, before
    )


def _judge(
    model: Model,
    trace: StreamingTrace,
    taken: Inputs,
    first: int,
    before: NDArray[np.float32],
    surprise: NDArray[np.float64],
) -> None:
    """Fill in what was forecast before each step of a trace from `first` on; of symbols, how likely they were."""
    steps = torch.arange(first, taken.values.shape[1], device=model.forecaster.device)
    times = None if taken.times is None else taken.times[0, first:].unsqueeze(1)
    covariates = taken.values[0, first:, model.targets :].unsqueeze(1) if model.config.covariates else None
    context = trace.context(torch.zeros_like(steps), steps)
    values = model.forecaster.forecast(context, 1, Future(times, covariates))[:, 0].cpu().numpy()
    levels = model.config.quantile_levels
    if levels:
        before[:] = values
        if len(levels) > 1 and np.isnan(surprise).all():  # the model itself does not judge values
            quantiles, observed = (
                torch.from_numpy(values).double().movedim(1, 2),
                taken.values[0, first:, : model.targets],
            )
            surprise[:] = share_below(quantiles, observed.cpu(), torch.tensor(levels, dtype=torch.float64)).numpy()
        return
    symbols = taken.values[0, first:, 0].cpu().numpy()
    seen = ~np.isnan(symbols)
    surprise[seen, 0] = values[seen, symbols[seen].astype(np.int64), 0]


def _recent(model: Model, state: State) -> NDArray[np.float64]:
    """Return the last values that a state keeps as they were observed, float64 [W, D]; none if it keeps none."""
    for part in model.forecaster.layout.parts:
        if part.name in ("window", "last") and part.dtype == "float64" and len(part.shape) == 2:
            values: NDArray[np.float64] = state[part.name][0].cpu().numpy()[:, : model.targets]
            return values
    return np.empty((0, model.targets))


def _instants(standing: Standing, steps: int) -> NDArray[np.int64] | None:
    """Return the times of the session's last steps; None if only position counts."""
    clock, times = standing.clock, _times(standing, steps)
    return None if clock is None or times is None else np.array([clock.instant(time) for time in times], np.int64)


def _times(standing: Standing, steps: int) -> list[int] | None:
    """Return the times of the session's last steps on its grid; None if only position counts."""
    clock, last = standing.clock, standing.last_time
    return None if clock is None or last is None else times_up_to(last, steps, clock.frequency)


def _forecast(standing: Standing, state: State) -> tuple[ForecastOutput | None, str]:
    """Return the session's forecast, or why there is none."""
    model = standing.model
    if model.config.needs_future:
        return None, "This model forecasts with the covariates of the steps ahead, which only callers know."
    if not standing.version.step:
        return None, "There are no observations yet."
    request = Request("", horizon=min(model.config.horizon, LONGEST_FORECAST))
    categories = categories_of(model, [standing.categories])

    def context_of(rows: torch.Tensor, _: torch.Tensor) -> object:
        return model.forecaster.context(state.select(rows), categories)

    wanted = Wanted(0, 0, 0, request, standing, standing.last_time)
    ((_, forecast),) = forecasts(model, context_of, 0, [wanted])
    if np.isnan(forecast.values).all():
        return None, "The model needs more observations before it forecasts."
    return forecast, ""
