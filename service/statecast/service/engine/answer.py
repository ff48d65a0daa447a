"""Answers the requests of a batch from its table."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from statecast.service.engine.forecasts import FLOAT
from statecast.service.engine.plan import Answer, Plan
from statecast.service.engine.request import Outcome, Request, Result
from statecast.service.engine.standing import Seed, Session
from statecast.service.engine.table import Results, Table
from statecast.service.errors import PreconditionFailed
from statecast.service.store.redis_store import Verdict
from statecast.v1.reasons import Reason

OTHER_DATA = (
    "the session's key in Redis holds other data; the server's operator must delete that key, and give each use of "
    "one Redis its own --namespace"
)


def answer(table: Table) -> Results:
    """Return the results of all sessions but those in conflict."""
    results: Results = {}
    done, failed = Verdict.DONE, table.failed
    columns = zip(table.keys, table.plans, table.sessions, table.verdicts, strict=True)
    for row, (key, plan, session, verdict) in enumerate(columns):
        # A failed commit comes first: without it, the decisions may rest on a stale session.
        if failed and row in failed:
            results[key] = failed[row]
        elif verdict is Verdict.NOT_A_RECORD:
            results[key] = [PreconditionFailed(OTHER_DATA, Reason.RECORD_DAMAGED)] * len(table.requests[row])
        elif verdict is done and plan is not None:
            results[key] = list(_planned(table, row, plan))
        elif verdict is done and session is not None:
            results[key] = [_steady(table, row, session)]
    return results


def _steady(table: Table, row: int, session: Session) -> Outcome:
    entries, place, standing = table.entries[row], table.states[row], session.standing
    forecast = pit = None
    if place is not None:
        computed, index = place
        forecast = computed.forecasts.get((index, 0))
        if entries:
            pit = computed.only_pits[index]
    return Outcome(
        entries[-1].version if entries else standing.version, None, False, False, forecast, pit, None, 0, None,
        standing.ttl_ms, table.steps[row], standing.model,
    )  # fmt: skip


def _planned(table: Table, row: int, plan: Plan) -> Iterator[Result]:
    for position, (decision, request) in enumerate(zip(plan.decisions, table.requests[row], strict=True)):
        yield decision if isinstance(decision, Exception) else _outcome(table, row, position, request, decision)


def _outcome(table: Table, row: int, position: int, request: Request, decision: Answer) -> Outcome:
    standing, place = decision.standing, table.states[row]
    outcome = Outcome(
        standing.version,
        standing,
        decision.opened,
        decision.replayed,
        missing=decision.missing,
        ttl_ms=standing.ttl_ms,
        steps=decision.appended,
        model=standing.model,
    )
    if request.upgrade is not None and not decision.replayed and (move := table.moves.get(row)):
        outcome.reencoded, outcome.is_exact = move.steps, move.is_exact
    if place is not None:
        computed, index = place
        outcome.forecast = computed.forecasts.get((index, position))
        outcome.gates = computed.gates.get((index, position))
        if decision.taken:
            outcome.pit = computed.pit[index, _own_steps(decision)].astype(FLOAT).tobytes()
        outcome.seed = Seed(standing, computed.pack([index])[0]) if request.copy else None
    return outcome


def _own_steps(decision: Answer) -> slice | NDArray[np.int64]:
    """Return the positions of a request's observations among the plan's steps."""
    if decision.given is None:
        return slice(decision.steps - decision.taken, decision.steps)
    return decision.steps - decision.appended + decision.given
