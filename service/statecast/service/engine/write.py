"""What a batch writes for one session: an entry behind its snapshot, a fresh snapshot, or nothing."""

from dataclasses import dataclass

from statecast.service.engine.advance import Advanced
from statecast.service.engine.hot import Standing
from statecast.service.engine.loaded import Loaded
from statecast.service.engine.plan import Plan
from statecast.service.store.record import Snapshot, encode_entry, encode_snapshot, new_stamp
from statecast.service.store.store import Commit, Operation


@dataclass(frozen=True, slots=True)
class Write:
    """One session's commit (None: nothing to write or compare), and what its record carries afterwards."""

    session_id: str
    commit: Commit | None
    stamp: bytes
    steps_since_snapshot: int


def write(session_id: str, loaded: Loaded, plan: Plan, advanced: Advanced | None, snapshot_every: int) -> Write:
    """What to commit for the session, given what it came from and what the plan appends."""
    if plan.closed:
        return Write(session_id, delete(session_id, loaded.stamp), b"", 0)
    if advanced is None or plan.standing is None or not (plan.entries or plan.opened):
        return _compare(session_id, loaded)
    steps = loaded.steps_since_snapshot + plan.steps
    if plan.opened or steps >= snapshot_every:
        return _replace(session_id, loaded, plan.standing, advanced)
    return _append(session_id, loaded, plan, plan.standing.ttl_ms, steps)


def delete(session_id: str, stamp: bytes) -> Commit:
    """Forget the session, if its record still bears that stamp."""
    return Commit(session_id, Operation.DELETE, stamp)


def _compare(session_id: str, loaded: Loaded) -> Write:
    """Nothing changes; a copy from memory must still be the newest, one just read from Redis is."""
    commit = Commit(session_id, Operation.CHECK, loaded.stamp) if loaded.row is not None else None
    return Write(session_id, commit, loaded.stamp, loaded.steps_since_snapshot)


def _replace(session_id: str, loaded: Loaded, standing: Standing, advanced: Advanced) -> Write:
    model = standing.model
    snapshot = Snapshot(
        model.config.name,
        model.config.version,
        model.digest_bytes,
        len(model.config.targets),
        model.forecaster.layout.pack(advanced.states.select([advanced.index]))[0],
        standing.version,
        standing.last_time,
        standing.ttl_ms,
        standing.recent,
    )
    stamp = new_stamp(standing.version)
    payload = encode_snapshot(session_id, snapshot, stamp)
    return Write(
        session_id,
        Commit(session_id, Operation.REPLACE, loaded.stamp, payload, standing.ttl_ms),
        stamp,
        0,
    )


def _append(session_id: str, loaded: Loaded, plan: Plan, ttl_ms: int, steps: int) -> Write:
    stamps = [new_stamp(entry.version) for entry in plan.entries]
    payload = b"".join(
        encode_entry(session_id, entry, stamp) for entry, stamp in zip(plan.entries, stamps, strict=True)
    )
    commit = Commit(session_id, Operation.APPEND, loaded.stamp, payload, ttl_ms)
    return Write(session_id, commit, stamps[-1], steps)
