"""Answers the requests of a batch from its table."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

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
    for row, key in enumerate(table.keys):
        plan, session, verdict = table.plans[row], table.sessions[row], table.verdicts[row]
        # A failed commit comes first: without it, the decisions may rest on a stale session.
        if row in table.failed:
            results[key] = table.failed[row]
        elif verdict is Verdict.NOT_A_RECORD:
            results[key] = [PreconditionFailed(OTHER_DATA, Reason.RECORD_DAMAGED)] * len(table.requests[row])
        elif verdict is Verdict.DONE and plan is not None:
            results[key] = list(_planned(table, row, plan))
        elif verdict is Verdict.DONE and session is not None:
            results[key] = [_steady(table, row, session)]
    return results


def _steady(table: Table, row: int, session: Session) -> Outcome:
    entries, place, standing = table.entries[row], table.states[row], session.standing
    outcome = Outcome(
        entries[-1].version if entries else standing.version,
        ttl_ms=standing.ttl_ms,
        steps=table.steps[row],
        model=standing.model,
    )
    if place is not None:
        computed, index = place
        outcome.forecast = computed.forecasts.get((index, 0))
        if entries:
            outcome.pit = computed.pit[index]
    return outcome


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
    if place is not None:
        computed, index = place
        outcome.forecast = computed.forecasts.get((index, position))
        outcome.gates = computed.gates.get((index, position))
        outcome.pit = computed.pit[index, _own_steps(decision)] if decision.taken else None
        outcome.seed = Seed(standing, computed.pack([index])[0]) if request.copy else None
    return outcome


def _own_steps(decision: Answer) -> slice | NDArray[np.int64]:
    """Return the positions of a request's observations among the plan's steps."""
    if decision.given is None:
        return slice(decision.steps - decision.taken, decision.steps)
    return decision.steps - decision.appended + decision.given
