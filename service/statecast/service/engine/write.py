"""Builds the commit of each session: an entry after its snapshot, a new snapshot, a comparison, or nothing."""

import os
from collections.abc import Iterable

from statecast.service.engine.standing import Session, Standing
from statecast.service.engine.table import Table
from statecast.service.store.record import (
    LONGEST_TRACE_MS,
    NONCE_BYTES,
    STAMP_BYTES,
    Record,
    Snapshot,
    encode_entry,
    encode_snapshot,
    new_stamp,
    stamp_of,
    tombstone_ms,
)
from statecast.service.store.redis_store import Commit, Operation
from statecast.service.version import START, Version

MOST_REPLAYED = 8
"""A session read with this many steps after its snapshot gets a new one: it may be read again soon."""


def write(table: Table, snapshot_every: int) -> None:
    """Fill the column `commits`."""
    states = _packed(table, [row for row in table.rows if _is_snapshot_due(table, row, snapshot_every)])
    nonce = os.urandom(NONCE_BYTES)  # a session is in a batch only once
    for row in table.rows:
        plan, session = table.plans[row], table.sessions[row]
        if plan is not None and plan.closed and session is not None:
            table.commits[row] = _close(table.keys[row], session)
        elif row in states:
            table.commits[row] = _replace(table, row, states[row], nonce)
        elif table.entries[row] and session is not None:
            table.commits[row] = _append(table, row, session, nonce)
        elif session is not None and row not in table.cold:  # one just read from Redis is the newest
            table.commits[row] = _check(session)


def _is_snapshot_due(table: Table, row: int, snapshot_every: int) -> bool:
    """Return True if the commit must write the session's whole state."""
    plan, session, steps = table.plans[row], table.sessions[row], table.steps[row]
    if plan is not None and plan.closed:
        return False
    if table.moves and table.is_moving(row):
        return True
    if session is None or (plan is not None and plan.ended):
        return plan is not None and (plan.opened or plan.ended)
    is_far = session.steps_since_snapshot + steps >= snapshot_every or session.replayed >= MOST_REPLAYED
    return steps > 0 and is_far


def _packed(table: Table, rows: Iterable[int]) -> dict[int, bytes]:
    """Return the packed states of sessions by row; those computed together are packed together."""
    states: dict[int, bytes] = {}
    together: dict[int, list[int]] = {}
    for row in rows:
        if place := table.states[row]:
            together.setdefault(id(place[0]), []).append(row)
    for group in together.values():
        places = [place for row in group if (place := table.states[row])]
        computed = places[0][0]
        states |= zip(group, computed.pack([index for _, index in places]), strict=True)
    return states


def _after(table: Table, row: int) -> Standing:
    """Return a session's standing after its requests."""
    plan, session = table.plans[row], table.sessions[row]
    if plan is not None and plan.standing is not None:
        return plan.standing
    if session is None:
        raise ValueError(f"session {table.keys[row]!r} does not exist")
    entries = table.entries[row]
    return session.standing.after(entries[0]) if entries else session.standing


def _replace(table: Table, row: int, state: bytes, nonce: bytes) -> Commit:
    standing, key = _after(table, row), table.keys[row]
    payload = encode_snapshot(key, standing.snapshot(state), stamp_of(nonce, standing.version))
    session, tombstone = table.sessions[row], tombstone_ms(standing.ttl_ms)
    # The replaced record may be a tombstone or another session's, which must not block the commit.
    own_tombstone = tombstone_ms(session.standing.ttl_ms) if session else 0
    lifetime_ms, move = standing.ttl_ms + tombstone, table.moves.get(row)
    if move is not None and move.remaining_ms >= 0 and not table.steps[row]:
        # Only an observation renews the lifetime. The commit script sets a longer one than asked for.
        lifetime_ms = (16 * move.remaining_ms + own_tombstone) // 17
    return Commit(key, Operation.REPLACE, table.stamps[row], payload, lifetime_ms, own_tombstone)


def _append(table: Table, row: int, session: Session, nonce: bytes) -> Commit:
    """Build an append; its entries may share a nonce, since only a record's last stamp is compared."""
    checksum, ttl_ms, payload = session.key_checksum, session.standing.ttl_ms, b""
    for entry in table.entries[row]:
        payload += encode_entry(checksum, entry, stamp_of(nonce, entry.version))
    tombstone = tombstone_ms(ttl_ms)
    return Commit(session.key, Operation.APPEND, session.stamp, payload, ttl_ms + tombstone, tombstone)


def _check(session: Session) -> Commit:
    """Change nothing, but compare: a session in memory must still be the newest."""
    return Commit(session.key, Operation.CHECK, session.stamp, tombstone_ms=tombstone_ms(session.standing.ttl_ms))


def _close(key: str, session: Session) -> Commit:
    standing = session.standing
    return _replace_by_tombstone(key, session.stamp, _tombstone(standing.version, standing.ttl_ms), expires=True)


def close_unusable(key: str, data: bytes, record: Record | None) -> Commit:
    """Close a session whose record cannot be used or decoded, if the record has not changed."""
    at = (record.newest.version, record.snapshot.ttl_ms) if record else (START, LONGEST_TRACE_MS)
    return _replace_by_tombstone(key, data[-STAMP_BYTES:], _tombstone(*at), expires=record is not None)


def _tombstone(version: Version, ttl_ms: int) -> Snapshot:
    """Return the record that a closed session leaves behind."""
    return Snapshot(version, None, ttl_ms, closed=True)


def _replace_by_tombstone(key: str, stamp: bytes, tombstone: Snapshot, *, expires: bool) -> Commit:
    payload = encode_snapshot(key, tombstone, new_stamp(tombstone.version))
    lifetime_ms = tombstone_ms(tombstone.ttl_ms)
    return Commit(key, Operation.CLOSE, stamp, payload, lifetime_ms, lifetime_ms if expires else 0)
