"""Decides what each session of a batch appends: steady rows here, all others by the planner.

A row is steady if it is the usual next request of a session in memory: one that can only be carried out, whatever the
planner's rules say. Both ways give the same answers and the same bytes in Redis.
"""

import time

from statecast.service.engine.plan import Planner, digest_of
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
    for row in table.rows:
        session, requests = table.sessions[row], table.requests[row]
        if session is not None and len(requests) == 1 and is_steady(session, requests[0], now, clock_ns):
            if requests[0].values.size:
                table.entries[row] = (_entry(session, requests[0]),)
                table.steps[row] = 1
        else:
            # A copy, since answers refer to it, and the session moves on.
            standing = session.standing.copy() if session else None
            plan = table.plans[row] = planner.plan(standing, requests, table.gone[row], table.moves.get(row))
            if plan.opened:  # in place of the one that exists, if any
                table.sessions[row] = None
                table.cold.pop(row, None)
            table.entries[row], table.steps[row] = plan.entries, plan.steps


def is_steady(session: Session, request: Request, now: float, clock_ns: int) -> bool:
    """Return True if the request only has to be carried out.

    Args:
        session: A session in memory.
        request: Its only request in the batch.
        now: The time by time.monotonic.
        clock_ns: The server's clock, in nanoseconds since 1970.
    """
    standing, model = session.standing, session.standing.model
    if (
        not request.is_plain
        or (request.deadline is not None and request.deadline <= now)
        or (request.last_seen is not None and request.last_seen != standing.version)
        or request.request_id in standing.recent
        or standing.ended
        or request.horizon > model.config.horizon
        or (request.opening is not None and not _names(request.opening, standing))
        or request.target_count not in (0, model.targets)
    ):
        return False
    if not request.values.size:
        return request.start_time is None and not model.config.needs_future
    if not model.takes_plain_steps or request.values.size != model.width:
        return False
    if not session.step_ns:
        return session.step_ns == 0 and request.start_time is None
    if standing.last_time is None:
        return False
    at = standing.last_time + session.step_ns
    return (
        (request.start_time is None or request.start_time == at)
        and at <= clock_ns + session.max_ahead_ns
        and abs(at) + session.step_ns * model.usual_horizon < LATEST_NS
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
    standing = session.standing
    values, at = request.values, None
    if session.step_ns and standing.last_time is not None:
        at = standing.last_time + session.step_ns
    if values.size == 1:
        version = chain_value(standing.version, values.item(), at)
    else:
        version = chain(standing.version, values.reshape(1, -1), None if at is None else [at])
    digest = digest_of(request) if request.request_id else b""
    return Entry(1, values.tobytes(), at, request.request_id, digest, version)
