"""Moves the sessions of a batch on in memory, once Redis has confirmed their commits."""

from statecast.service.engine.session_cache import SessionCache
from statecast.service.engine.standing import Session
from statecast.service.engine.table import Table
from statecast.service.store.record import STAMP_BYTES
from statecast.service.store.redis_store import Operation, Verdict


def keep(table: Table, cache: SessionCache) -> None:
    """Move on the sessions whose commit is done: all states first, then what goes by the new stamps.

    A failure leaves new states under old stamps, so the caller must drop the sessions.
    """
    done = [row for row in table.rows if table.verdicts[row] is Verdict.DONE]
    _keep_states(table, {row for row in done if _has_changed(table, row)}, cache)
    for row in done:
        plan, session = table.plans[row], table.sessions[row]
        if plan is not None and plan.closed:
            cache.drop(table.keys[row])
        elif session is not None:
            _move_on(table, row, session)


def _has_changed(table: Table, row: int) -> bool:
    plan = table.plans[row]
    return table.steps[row] > 0 or table.is_moving(row) or (plan is not None and (plan.opened or plan.ended))


def _keep_states(table: Table, changed: set[int], cache: SessionCache) -> None:
    for computed in table.computed:
        indices = [index for index, row in enumerate(computed.rows) if row in changed]
        if not indices:
            continue
        sessions = [_session(table, computed.rows[index]) for index in indices]
        is_all = len(indices) == len(computed.rows)
        cache.write(computed.model, sessions, computed.state if is_all else computed.state.select(indices))


def _session(table: Table, row: int) -> Session:
    """Return the session of a row, which may have just been opened."""
    session, plan = table.sessions[row], table.plans[row]
    if session is None:
        if plan is None or plan.standing is None:
            raise ValueError(f"session {table.keys[row]!r} does not exist")
        session = table.sessions[row] = Session(table.keys[row], plan.standing, b"", 0)
    return session


def _move_on(table: Table, row: int, session: Session) -> None:
    plan, commit = table.plans[row], table.commits[row]
    if plan is None:
        for entry in table.entries[row]:
            session.standing.take(entry)
    elif plan.standing is not None and _has_changed(table, row):
        session.standing = plan.standing.copy()  # answers refer to the plan's
    if commit is None or commit.operation is Operation.CHECK:
        return
    session.stamp = commit.payload[-STAMP_BYTES:]
    if commit.operation is Operation.REPLACE:
        session.steps_since_snapshot = session.replayed = 0
    else:
        session.steps_since_snapshot += table.steps[row]
