"""The tensors of a batch: states forward, forecasts out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from statecast.model import State, StreamingTrace
from statecast.service.engine.hot import HotSessions
from statecast.service.engine.loaded import Loaded
from statecast.service.engine.plan import Answer, Plan
from statecast.service.engine.request import ForecastResult, Request
from statecast.service.registry import Model

STEPS_A_BUCKET = 32
"""Sessions with fewer new steps than this go together; beyond, those within a factor of two."""
FORECASTS_AT_ONCE = 512
STEPS_AT_ONCE = 16_384
"""Over all sessions of a computation: a trace holds every state in between, some kilobytes each."""


@dataclass(frozen=True, slots=True)
class Job:
    """One session that needs its state: to take steps, to forecast, or both."""

    session_id: str
    model: Model
    loaded: Loaded
    plan: Plan
    requests: Sequence[Request]

    @property
    def rows(self) -> NDArray[np.float64]:
        """All steps from the loaded state on [time, targets]: those to replay, then the new ones."""
        parts = [] if self.loaded.replay is None else [self.loaded.replay]
        parts += [entry.rows for entry in self.plan.entries]
        return np.concatenate(parts) if parts else np.empty((0, len(self.model.config.targets)))

    @property
    def replayed_steps(self) -> int:
        """How many of `rows` the session had taken before."""
        return 0 if self.loaded.replay is None else len(self.loaded.replay)

    def forecasts(self) -> Iterator[tuple[int, Answer]]:
        """The requests to answer with a forecast, by position."""
        for position, (request, decision) in enumerate(zip(self.requests, self.plan.decisions, strict=True)):
            if isinstance(decision, Answer) and request.horizon:
                yield position, decision


@dataclass(frozen=True, slots=True)
class Advanced:
    """What became of one session: row `index` of `states`, and a forecast for each request that wanted one."""

    model: Model
    states: State
    index: int
    forecasts: dict[int, ForecastResult]

    @property
    def packed(self) -> bytes:
        """The session's state as bytes."""
        return self.model.forecaster.layout.pack(self.states.select([self.index]))[0]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A forecast that a request wants: of the job at `index`, after `step` of its steps."""

    index: int
    position: int
    step: int
    answer: Answer
    request: Request


def needs_state(plan: Plan, requests: Sequence[Request]) -> bool:
    """Whether the session's state has to be computed at all."""
    if plan.closed or plan.standing is None:
        return False
    return (
        plan.opened
        or bool(plan.entries)
        or any(
            isinstance(decision, Answer) and (request.horizon or request.copy)
            for request, decision in zip(requests, plan.decisions, strict=True)
        )
    )


def group(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs that run together: of one model, and not too different in length."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        bucket = ((job.replayed_steps + job.plan.steps) // STEPS_A_BUCKET).bit_length()
        groups.setdefault((job.model.digest, bucket), []).append(job)
    return list(groups.values())


def advance(jobs: list[Job], hot: HotSessions) -> dict[str, Advanced]:
    """Carry the states of jobs of one model forward and make their forecasts."""
    jobs = sorted(jobs, key=_source)
    model = jobs[0].model
    values, lengths = _observations(jobs, model)
    state = _states(jobs, model, hot)
    wanted = [
        _Wanted(index, position, job.replayed_steps + answer.steps, answer, job.requests[position])
        for index, job in enumerate(jobs)
        for position, answer in job.forecasts()
    ]
    forecasts: list[dict[int, ForecastResult]] = [{} for _ in jobs]
    stretch = max(1, STEPS_AT_ONCE // len(jobs))
    for start in range(0, max(1, values.shape[1]), stretch):
        part = values[:, start : start + stretch]
        trace = model.forecaster.advance(state, part, (lengths - start).clamp(0, part.shape[1]))
        due = [each for each in wanted if start < each.step <= start + stretch or each.step == start == 0]
        for each, result in _forecasts(model, trace, start, due):
            forecasts[each.index][each.position] = result
        state = trace.state
    return {job.session_id: Advanced(model, state, index, forecasts[index]) for index, job in enumerate(jobs)}


def _source(job: Job) -> int:
    """Where the state comes from: 0 memory, 1 a record, 2 nowhere yet."""
    if job.loaded.row is not None:
        return 0
    return 1 if job.loaded.snapshot is not None else 2


def _states(jobs: list[Job], model: Model, hot: HotSessions) -> State:
    """The states to start from, in the order of the jobs (sorted by source)."""
    forecaster = model.forecaster
    rows = [job.loaded.row for job in jobs if job.loaded.row is not None]
    records = [job.loaded.snapshot for job in jobs if job.loaded.snapshot is not None]
    fresh = len(jobs) - len(rows) - len(records)
    states = []
    if rows:
        states.append(hot.read(model, rows))
    if records:
        states.append(forecaster.layout.unpack(records, forecaster.device))
    if fresh:
        states.append(forecaster.initial_state(fresh))
    return states[0] if len(states) == 1 else State.cat(states)


def _observations(jobs: list[Job], model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    """The steps of all jobs [batch, time, targets], padded, and how many each one has [batch]."""
    rows = [job.rows for job in jobs]
    lengths = [len(each) for each in rows]
    padded = np.full((len(jobs), max(lengths), len(model.config.targets)), np.nan)
    for index, each in enumerate(rows):
        padded[index, : len(each)] = each
    device = model.forecaster.device
    return torch.from_numpy(padded).to(device), torch.tensor(lengths, device=device)


def _forecasts(
    model: Model, trace: StreamingTrace, start: int, wanted: Sequence[_Wanted]
) -> Iterator[tuple[_Wanted, ForecastResult]]:
    """The forecasts from within a trace that begins `start` steps into the batch."""
    device = model.forecaster.device
    for at in range(0, len(wanted), FORECASTS_AT_ONCE):
        part = wanted[at : at + FORECASTS_AT_ONCE]
        rows = torch.tensor([each.index for each in part], device=device)
        steps = torch.tensor([each.step - start for each in part], device=device)
        horizon = max(each.request.horizon for each in part)
        values = model.forecaster.forecast(trace.context(rows, steps), horizon).cpu().numpy()
        for each, quantiles in zip(part, values, strict=True):
            yield each, _result(model, each.answer, each.request, quantiles)


def _result(model: Model, answer: Answer, request: Request, values: NDArray[np.float32]) -> ForecastResult:
    """What the request asked for out of `values` [horizon, levels, targets]."""
    start = None
    if model.frequency and answer.standing.last_time is not None:
        start = model.frequency.add(answer.standing.last_time, 1)
    values = values[: request.horizon]
    levels = model.config.quantile_levels
    if request.quantile_levels:
        values = _at_levels(values, levels, request.quantile_levels)
        levels = request.quantile_levels
    return ForecastResult(start, model.config.frequency, levels, model.config.targets, values)


def _at_levels(values: NDArray[np.float32], known: Sequence[float], wanted: Sequence[float]) -> NDArray[np.float32]:
    """Quantiles [horizon, wanted levels, targets], linear between those at the known levels."""
    above = np.searchsorted(known, wanted)
    below = (above - 1).clip(0)
    low, high = np.take(known, below), np.take(known, above)
    weight = np.where(above > below, (wanted - low) / np.where(above > below, high - low, 1), 0)
    weight = weight[:, None].astype(np.float32)
    # In this form, and clipped, rounding cannot make quantiles cross.
    under, over = values[:, below], values[:, above]
    mixed: NDArray[np.float32] = np.minimum(under + (over - under) * weight, over)
    return mixed
