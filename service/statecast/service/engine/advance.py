"""Advances the states of a batch and computes its forecasts."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from statecast.model import Gates, ObservationError, State, StreamingTrace
from statecast.service.engine.forecasts import FLOAT, ContextOf, Wanted, forecasts
from statecast.service.engine.inputs import STEPS_AT_ONCE, Inputs, bucket, categories_of, traces
from statecast.service.engine.plan import Answer
from statecast.service.engine.request import ForecastOutput
from statecast.service.engine.session_cache import SessionCache
from statecast.service.engine.standing import Standing
from statecast.service.engine.table import Table
from statecast.service.models.registry import Model

log = logging.getLogger(__name__)

EXPLAINED_STEPS_AT_ONCE = 64
"""Per session, if a step is to be explained: its gates are recomputed from the beginning of the trace."""


@dataclass  # without slots, for the cached property
class Computed:
    """What was computed at once, for sessions of one model.

    Attributes:
        model: Their model.
        rows: Their rows in the table.
        state: Their new states, in that order.
        pit: Position of each new value in the forecast before it, NaN without one, float64 [sessions, steps, targets].
        forecasts: Forecasts of the requests that want one, by the session's index and the request's position.
        gates: Gates of the requests whose last step is to be explained, likewise, if the model has any.
    """

    model: Model
    rows: list[int]
    state: State
    pit: NDArray[np.float64]
    forecasts: dict[tuple[int, int], ForecastOutput] = field(default_factory=dict)
    gates: dict[tuple[int, int], Gates] = field(default_factory=dict)

    @cached_property
    def only_pits(self) -> list[bytes]:
        """`pit` of each session, as it is answered: little-endian float32. All took the same number of steps, not 0."""
        data = self.pit.astype(FLOAT).tobytes()
        size = len(data) // len(self.rows)
        return [data[at : at + size] for at in range(0, len(data), size)]

    def pack(self, indices: Sequence[int]) -> list[bytes]:
        """Return the packed states of sessions."""
        return self.model.forecaster.layout.pack(self.state.select(indices))


def advance(table: Table, cache: SessionCache) -> None:
    """Compute the states and forecasts that the requests need; a failure is that of all sessions computed at once."""
    for model, rows in _groups(table):
        try:
            computed = _compute(model, rows, table, cache)
        except Exception as error:
            log.exception("a batch of %d sessions could not be computed", len(rows))
            for row in rows:
                table.fail(row, error)
        else:
            table.computed.append(computed)
            for index, row in enumerate(computed.rows):
                table.states[row] = computed, index


def _groups(table: Table) -> Iterable[tuple[Model, list[int]]]:
    """Return the rows that need their states and run together: of one model, and with similarly many steps."""
    groups: dict[tuple[str, int], tuple[Model, list[int]]] = {}
    plans, sessions, steps = table.plans, table.sessions, table.steps
    last: tuple[Model, int] | None = None
    group: list[int] = []
    for row in table.rows:
        session = sessions[row]
        if plans[row] is None and session is not None:
            model = session.standing.model
        elif needs_state(table, row):
            model = standing_of(table, row).model
        else:
            continue
        count = steps[row]
        if last != (model, count):  # neighbours mostly run together
            last = model, count
            place = model.digest, count if count < 2 else bucket(count)
            _, group = groups.setdefault(place, (model, []))
        group.append(row)
    return groups.values()


def needs_state(table: Table, row: int) -> bool:
    """Return True if the session's requests need its state."""
    plan = table.plans[row]
    if plan is None or table.is_moving(row):
        return True
    if plan.closed or plan.standing is None:
        return False
    is_asked = any(request.horizon or request.copy for request in table.requests[row])
    return plan.opened or plan.ended or plan.steps > 0 or is_asked


def standing_of(table: Table, row: int) -> Standing:
    """Return the standing of a session: after its requests if they were planned, else before them."""
    plan, session = table.plans[row], table.sessions[row]
    standing = plan.standing if plan is not None else session.standing if session is not None else None
    if standing is None:
        raise ValueError(f"session {table.keys[row]!r} does not exist")
    return standing


def _compute(model: Model, rows: list[int], table: Table, cache: SessionCache) -> Computed:
    rows, state = _states(model, rows, table, cache)
    standings = [standing_of(table, row) for row in rows]
    last_times = [
        entries[-1].last_time if (entries := table.entries[row]) else standing.last_time
        for row, standing in zip(rows, standings, strict=True)
    ]
    wanted = _wanted(table, rows, standings, last_times)
    categories = categories_of(model, (standing.categories for standing in standings))
    steps = [table.steps[row] for row in rows]
    if not any(steps):
        computed = Computed(model, rows, state, np.empty((len(rows), 0, model.targets)))
        _add_forecasts(computed, wanted, partial(_context, model, state, categories))
        return computed
    data = [entry.data for row in rows for entry in table.entries[row]]
    inputs = Inputs.of(model, steps, data, last_times, categories)
    computed, pits = Computed(model, rows, state, np.empty(0)), []
    steps_at_once = _steps_at_once(len(rows), wanted)
    for start, trace, pit in traces(model, state, inputs, steps_at_once):
        due = [each for each in wanted if start < each.step <= start + steps_at_once or each.step == start == 0]
        _add_forecasts(computed, due, trace.context, start)
        for each in due:
            if each.is_explained and (told := _gates(trace, each.index, each.step - start)):
                computed.gates[each.index, each.position] = told
        pits.append(pit)
        computed.state = trace.state
    computed.pit = pits[0] if len(pits) == 1 else np.concatenate(pits, axis=1)
    return computed


def _add_forecasts(computed: Computed, wanted: Sequence[Wanted], context_of: ContextOf, start: int = 0) -> None:
    for each, forecast in forecasts(computed.model, context_of, start, [each for each in wanted if each.horizon]):
        computed.forecasts[each.index, each.position] = forecast


def _context(model: Model, state: State, categories: Tensor | None, rows: Tensor, _: Tensor) -> Any:
    """Return what forecasts need of sessions that take no steps; `rows` are their positions among the states."""
    return model.forecaster.context(state.select(rows), None if categories is None else categories[rows])


def _wanted(
    table: Table, rows: Sequence[int], standings: Sequence[Standing], last_times: Sequence[int | None]
) -> list[Wanted]:
    """Return the outputs that the requests of these rows want."""
    wanted = []
    for index, row in enumerate(rows):
        plan, requests = table.plans[row], table.requests[row]
        if plan is None:
            if requests[0].horizon:
                wanted.append(Wanted(index, 0, table.steps[row], requests[0], standings[index], last_times[index]))
            continue
        for position, (request, decision) in enumerate(zip(requests, plan.decisions, strict=True)):
            if isinstance(decision, Answer) and (request.horizon or (request.explain and decision.taken)):
                standing, is_explained = decision.standing, request.explain and decision.taken > 0
                each = Wanted(index, position, decision.steps, request, standing, standing.last_time, is_explained)
                wanted.append(each)
    return wanted


def _steps_at_once(sessions: int, wanted: Sequence[Wanted]) -> int:
    """Return how many steps of each session go into one trace."""
    steps_at_once = max(1, STEPS_AT_ONCE // sessions)
    return min(steps_at_once, EXPLAINED_STEPS_AT_ONCE) if any(each.is_explained for each in wanted) else steps_at_once


def _gates(trace: StreamingTrace, index: int, step: int) -> Gates | None:
    """Return the gates of a step of the trace; None if the model has none."""
    try:
        gates = trace.gates(index, step)
    except ObservationError:
        return None
    cell = None if gates.cell is None else gates.cell.cpu()
    return Gates(gates.names, gates.values.cpu(), cell, gates.hidden.cpu())


def _states(model: Model, rows: list[int], table: Table, cache: SessionCache) -> tuple[list[int], State]:
    """Return the rows in the order of their states, and the states to start from: in memory, copied, or new."""
    forecaster = model.forecaster
    known = [row for row in rows if table.sessions[row] is not None]
    others = [(row, plan) for row in rows if table.sessions[row] is None and (plan := table.plans[row])]
    seeded = [(row, plan.seed.state) for row, plan in others if plan.seed]
    fresh = [row for row, plan in others if not plan.seed]
    states = []
    if known:
        states.append(cache.read(model, [each for row in known if (each := table.sessions[row])]))
    if seeded:
        states.append(forecaster.layout.unpack([seed for _, seed in seeded], forecaster.device))
    if fresh:
        states.append(forecaster.initial_state(len(fresh)))
    rows = [*known, *(row for row, _ in seeded), *fresh]
    return rows, states[0] if len(states) == 1 else State.cat(states)
