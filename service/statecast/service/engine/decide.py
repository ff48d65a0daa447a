"""Decides what each session of a batch appends: steady rows here, all others by the planner.

A row is steady if it is the usual next request of a session in memory: one that can only be carried out, whatever the
planner's rules say. Both ways give the same answers and the same bytes in Redis.
"""

import time

from statecast.service.engine.plan import Planner, digest_of_values
from statecast.service.engine.request import Opening, Request
from statecast.service.engine.standing import Session, Standing
from statecast.service.engine.table import Table
from statecast.service.store.record import Entry
from statecast.service.version import chain, chain_value

LATEST_NS = 2**62
"""Times beyond are left to the planner, which knows where they end."""


def decide(table: Table, planner: Planner) -> None:
    """Fill the columns `plans`, `entries` and `steps`."""
    now, clock_ns = time.monotonic(), planner.now()
    all_sessions, all_requests, entries, steps = table.sessions, table.requests, table.entries, table.steps
    for row in table.rows:
        session, requests = all_sessions[row], all_requests[row]
        if session is not None and len(requests) == 1 and is_steady(session, requests[0], now, clock_ns):
            if requests[0].values.size:
                entries[row], steps[row] = (_entry(session, requests[0]),), 1
        else:
            # A copy, since answers refer to it, and the session moves on.
            standing = session.standing.copy() if session else None
            plan = table.plans[row] = planner.plan(standing, requests, table.gone[row], table.moves.get(row))
            if plan.opened:  # in place of the one that exists, if any
                table.sessions[row] = None
                table.cold.pop(row, None)
            entries[row], steps[row] = plan.entries, plan.steps


def is_steady(session: Session, request: Request, now: float, clock_ns: int) -> bool:
    """Return True if the request only has to be carried out.

    Args:
        session: A session in memory.
        request: Its only request in the batch.
        now: The time by time.monotonic.
        clock_ns: The server's clock, in nanoseconds since 1970.
    """
    standing, size, start_time = session.standing, request.values.size, request.start_time
    deadline, seen, opening, targets = request.deadline, request.last_seen, request.opening, request.target_count
    if (
        not request.is_plain
        or (deadline is not None and deadline <= now)
        or (seen is not None and seen != standing.version)
        or request.request_id in standing.recent
        or standing.ended
        or request.horizon > session.horizon
        or (opening is not None and not _names(opening, standing))
        or (targets and targets != standing.model.targets)
    ):
        return False
    if not (size == 1 and session.takes_one):
        model = standing.model
        if not size:
            return start_time is None and not model.config.needs_future
        if not model.takes_plain_steps or size != model.width:
            return False
    step_ns = session.step_ns
    if not step_ns:
        return step_ns == 0 and start_time is None
    if standing.last_time is None:
        return False
    at = standing.last_time + step_ns
    return (
        (start_time is None or start_time == at)
        and at <= clock_ns + session.max_ahead_ns
        and abs(at) + step_ns * standing.model.usual_horizon < LATEST_NS
    )


def _names(opening: Opening, standing: Standing) -> bool:
    """Return True if the options name the session's model, no other frequency, and no categories."""
    if opening.frequency is not None and opening.frequency is not standing.own_frequency:
        return False
    config = standing.model.config
    if opening.alias and (standing.binding is None or standing.binding.alias != opening.alias):
        return False
    is_named = opening.model in ("", config.name) and opening.model_version in ("", config.version)
    return is_named and not opening.categories


def _entry(session: Session, request: Request) -> Entry:
    """Return what a steady request appends."""
    standing, values, request_id, at = session.standing, request.values, request.request_id, None
    if session.step_ns and standing.last_time is not None:
        at = standing.last_time + session.step_ns
    count, data = values.size, values.tobytes()
    if count == 1:
        version = chain_value(standing.version, values.item(), at)
    else:
        version = chain(standing.version, values.reshape(1, -1), None if at is None else [at])
    digest = digest_of_values(request.start_time, count, data) if request_id else b""
    return Entry(1, data, at, request_id, digest, version)
