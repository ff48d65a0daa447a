"""Builds a session's commit: an entry after its snapshot, a new snapshot, or nothing."""

from dataclasses import dataclass

from statecast.service.engine.plan import Plan
from statecast.service.engine.session_loading import Loaded
from statecast.service.engine.standing import Standing
from statecast.service.store.record import (
    LONGEST_TRACE_MS,
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

MOST_REPLAYED = 16
"""A session read with this many steps after its snapshot gets a new one: it may be read again soon."""


@dataclass(slots=True)
class Write:
    """One session's commit (None: nothing to write or compare), and its record's stamp and step count afterwards."""

    commit: Commit | None
    stamp: bytes
    steps_since_snapshot: int


def is_snapshot_due(loaded: Loaded, plan: Plan, snapshot_every: int) -> bool:
    """Return True if this commit must write the session's whole state."""
    if not plan.entries and not plan.opened:
        return False
    is_far = loaded.steps_since_snapshot + plan.steps >= snapshot_every
    return plan.opened or is_far or loaded.replayed_steps >= MOST_REPLAYED


def write(key: str, loaded: Loaded, plan: Plan, state: bytes | None, nonce: bytes) -> Write:
    """Build the session's commit.

    Args:
        key: Key of the session.
        loaded: The session before the batch.
        plan: The decisions of the batch.
        state: The session's packed state, if a snapshot is due.
        nonce: Random bytes that no other commit to the session has.
    """
    if plan.closed and loaded.standing:
        return Write(_close(key, loaded.stamp, loaded.standing), b"", 0)
    if plan.standing is None or not (plan.entries or plan.opened):
        return _compare(key, loaded)
    if state is not None:
        return _replace(key, loaded, plan.standing, state, nonce)
    return _append(key, loaded, plan, plan.standing.ttl_ms, nonce)


def close_unusable(key: str, data: bytes, record: Record | None) -> Write:
    """Close a session whose record cannot be used or decoded, if the record has not changed."""
    stamp = data[-STAMP_BYTES:]
    at = (record.newest.version, record.snapshot.ttl_ms) if record else (START, LONGEST_TRACE_MS)
    tombstone = _tombstone(*at)
    return Write(_replace_by_tombstone(key, stamp, tombstone, expires=record is not None), b"", 0)


def _close(key: str, stamp: bytes, standing: Standing) -> Commit:
    return _replace_by_tombstone(key, stamp, _tombstone(standing.version, standing.ttl_ms), expires=True)


def _tombstone(version: Version, ttl_ms: int) -> Snapshot:
    """Return the record that a closed session leaves behind."""
    return Snapshot("", "", bytes(32), 0, b"", version, None, ttl_ms, closed=True)


def _replace_by_tombstone(key: str, stamp: bytes, tombstone: Snapshot, *, expires: bool) -> Commit:
    payload = encode_snapshot(key, tombstone, new_stamp(tombstone.version))
    lifetime_ms = tombstone_ms(tombstone.ttl_ms)
    return Commit(key, Operation.CLOSE, stamp, payload, lifetime_ms, lifetime_ms if expires else 0)


def _compare(key: str, loaded: Loaded) -> Write:
    """Change nothing; a cached session must still be the newest, one just read from Redis is."""
    commit = None
    if loaded.row is not None and loaded.standing:
        commit = Commit(key, Operation.CHECK, loaded.stamp, tombstone_ms=tombstone_ms(loaded.standing.ttl_ms))
    return Write(commit, loaded.stamp, loaded.steps_since_snapshot)


def _replace(key: str, loaded: Loaded, standing: Standing, state: bytes, nonce: bytes) -> Write:
    model = standing.model
    snapshot = Snapshot(
        model.config.name,
        model.config.version,
        model.digest_bytes,
        model.width,
        state,
        standing.version,
        standing.last_time,
        standing.ttl_ms,
        standing.recent,
        standing.lineage,
        standing.categories,
        time_zone=standing.zone.name,
        is_on_wall_clock=standing.is_on_wall_clock,
        max_ahead_ms=standing.max_ahead_ms,
    )
    stamp = stamp_of(nonce, standing.version)
    payload = encode_snapshot(key, snapshot, stamp)
    tombstone = tombstone_ms(standing.ttl_ms)
    # The replaced record may be a tombstone, which must not block the commit.
    own_tombstone = tombstone if loaded.standing else 0
    commit = Commit(key, Operation.REPLACE, loaded.stamp, payload, standing.ttl_ms + tombstone, own_tombstone)
    return Write(commit, stamp, 0)


def _append(key: str, loaded: Loaded, plan: Plan, ttl_ms: int, nonce: bytes) -> Write:
    """Build an append; its entries may share a nonce, since only a record's last stamp is compared."""
    payload = b"".join([encode_entry(key, entry, stamp_of(nonce, entry.version)) for entry in plan.entries])
    tombstone = tombstone_ms(ttl_ms)
    commit = Commit(key, Operation.APPEND, loaded.stamp, payload, ttl_ms + tombstone, tombstone)
    return Write(commit, payload[-STAMP_BYTES:], loaded.steps_since_snapshot + plan.steps)
