"""Advances the states of a batch and computes its forecasts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statecast.model import Gates, ObservationError, State, StreamingTrace
from statecast.service.engine.forecasts import forecasts
from statecast.service.engine.job import Inputs, Job, Wanted
from statecast.service.engine.request import ForecastOutput
from statecast.service.engine.session_cache import SessionCache
from statecast.service.models.registry import Model

STEPS_AT_ONCE = 16_384
"""Over all sessions of a computation; a trace holds every intermediate state, some kilobytes each."""
EXPLAINED_STEPS_AT_ONCE = 64
"""Per session, if a step is to be explained: its gates are recomputed from the beginning of the trace."""


@dataclass(slots=True)
class Advanced:
    """The results of one session: its new state, and the outputs of its requests.

    Attributes:
        model: Model that computed them.
        states: States of all sessions of the computation.
        index: This session's row of `states`.
        pit: Position of each new value in the forecast before it, NaN without one, float64 [new steps, targets].
        forecasts: Forecasts of the requests that want one, by the request's position.
        gates: Gates of the requests whose last step is to be explained, by position, if the model has any.
    """

    model: Model
    states: State
    index: int
    pit: NDArray[np.float64]
    forecasts: dict[int, ForecastOutput]
    gates: dict[int, Gates]


def pack(advanced: Sequence[Advanced]) -> list[bytes]:
    """Pack the states of sessions into bytes, those of one computation together."""
    packed = [b""] * len(advanced)
    together: dict[int, list[int]] = {}
    for position, each in enumerate(advanced):
        together.setdefault(id(each.states), []).append(position)
    for positions in together.values():
        first = advanced[positions[0]]
        states = first.states.select([advanced[position].index for position in positions])
        for position, state in zip(positions, first.model.forecaster.layout.pack(states), strict=True):
            packed[position] = state
    return packed


def advance(jobs: list[Job], cache: SessionCache) -> dict[str, Advanced]:
    """Advance the states of jobs of one model, and make their forecasts."""
    jobs = sorted(jobs, key=_source)
    model = jobs[0].model
    inputs = Inputs.of(jobs, model)
    state = _states(jobs, model, cache)
    wanted = [each for index, job in enumerate(jobs) for each in job.wanted(index)]
    made: list[dict[int, ForecastOutput]] = [{} for _ in jobs]
    gates: list[dict[int, Gates]] = [{} for _ in jobs]
    pits = []
    steps_at_once = _slice_steps(len(jobs), wanted)
    for start in range(0, max(1, inputs.values.shape[1]), steps_at_once):
        part = inputs.part(start, steps_at_once)
        trace = model.forecaster.advance(state, part.values, part.lengths, times=part.times, categories=part.categories)
        due = [each for each in wanted if start < each.step <= start + steps_at_once or each.step == start == 0]
        for each, result in forecasts(model, trace, start, [each for each in due if each.request.horizon]):
            made[each.index][each.position] = result
        for each in due:
            if each.is_explained and (told := _gates(trace, each.index, each.step - start)):
                gates[each.index][each.position] = told
        # A trace without steps may have one of padding.
        pits.append(trace.pit[:, : part.values.shape[1]].cpu().numpy())
        state = trace.state
    pit = pits[0] if len(pits) == 1 else np.concatenate(pits, axis=1)
    return {
        job.key: Advanced(
            model, state, index, pit[index, job.loaded.replayed_steps : job.steps], made[index], gates[index]
        )
        for index, job in enumerate(jobs)
    }


def _slice_steps(jobs: int, wanted: Sequence[Wanted]) -> int:
    """Return how many steps of each session go into one trace."""
    steps_at_once = max(1, STEPS_AT_ONCE // jobs)
    return min(steps_at_once, EXPLAINED_STEPS_AT_ONCE) if any(each.is_explained for each in wanted) else steps_at_once


def _gates(trace: StreamingTrace, index: int, step: int) -> Gates | None:
    """Return the gates of a step of the trace; None if the model has none."""
    try:
        gates = trace.gates(index, step)
    except ObservationError:
        return None
    cell = None if gates.cell is None else gates.cell.cpu()
    return Gates(gates.names, gates.values.cpu(), cell, gates.hidden.cpu())


def _source(job: Job) -> int:
    """Return the source of the state: 0 the cache, 1 a record, 2 a new session."""
    if job.loaded.row is not None:
        return 0
    return 1 if job.loaded.snapshot is not None else 2


def _states(jobs: list[Job], model: Model, cache: SessionCache) -> State:
    """Return the states to start from, in the order of the jobs (sorted by source)."""
    forecaster = model.forecaster
    rows = [job.loaded.row for job in jobs if job.loaded.row is not None]
    records = [job.loaded.snapshot for job in jobs if job.loaded.snapshot is not None]
    fresh = len(jobs) - len(rows) - len(records)
    states = []
    if rows:
        states.append(cache.read(model, rows))
    if records:
        states.append(forecaster.layout.unpack(records, forecaster.device))
    if fresh:
        states.append(forecaster.initial_state(fresh))
    return states[0] if len(states) == 1 else State.cat(states)
