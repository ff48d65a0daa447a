"""Reads sessions for an export, and commits those of an import, without the scheduler."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statecast.service.engine.session_loading import load
from statecast.service.errors import AlreadyExists, NotFound, PreconditionFailed, ServiceError, Unavailable, quoted
from statecast.service.models.registry import Registry
from statecast.service.session_key import id_of
from statecast.service.store.portable import encode_record, lifetime_ms, time_left_ms, to_portable
from statecast.service.store.record import (
    NONCE_BYTES,
    STAMP_BYTES,
    DamagedRecord,
    Record,
    Snapshot,
    decode,
    has_expired,
)
from statecast.service.store.redis_store import Commit, Operation, Store, Stored, Verdict
from statecast.service.version import Version
from statecast.v1.reasons import Reason

KEYS_AT_ONCE = 1000
ATTEMPTS = 5
"""Times that an import looks at a session whose writers do not rest."""
COUNT_SECONDS = 1.0
"""Time to count sessions; a number that takes longer is not worth it."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A session as it stands, and the time until it expires; None if it never does."""

    session_id: str
    record: Record
    left_ms: int | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A session whose record is damaged."""

    session_id: str
    error: ServiceError


@dataclass(frozen=True, slots=True)
class Arrival:
    """A session to import under `key`, with the time until it expires; None for its whole time to live."""

    key: str
    record: Record
    left_ms: int | None

    @property
    def version(self) -> Version:
        """Version of the session."""
        return self.record.newest.version


@dataclass(frozen=True, slots=True)
class Taken:
    """An imported session.

    Attributes:
        replaced: Version of the session that it has replaced; None if none was, or its record could not be read.
        was_there: True if a session of that name existed.
        changed: False if that session was the same, so that nothing was written.
    """

    replaced: Version | None = None
    was_there: bool = False
    changed: bool = True


@dataclass(frozen=True, slots=True)
class _There:
    """The key's value before an import: its stamp, and its record unless no session lives there or it is damaged."""

    stamp: bytes
    exists: bool
    record: Record | None = None


class Transfer:
    """Moves sessions out of Redis and into it. Not thread-safe."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store, self._registry = store, registry

    def count(self, tenant: str, prefix: str) -> int:
        """Return about how many sessions have ids that begin with `prefix`; 0 if counting takes too long."""
        until, found, cursor = time.monotonic() + COUNT_SECONDS, 0, 0
        while time.monotonic() < until:
            keys, cursor = self._store.scan(tenant, prefix, cursor, KEYS_AT_ONCE)
            found += len(keys)
            if not cursor:
                return found
        return 0

    def find(self, tenant: str, prefix: str, cursor: int) -> tuple[list[str], int]:
        """Return the keys of some sessions, and the next cursor, which is 0 after the last ones."""
        return self._store.scan(tenant, prefix, cursor, KEYS_AT_ONCE)

    def read(self, keys: Sequence[str]) -> list[Exported | Unreadable]:
        """Return the open sessions with these keys.

        Raises:
            Unavailable: if Redis does not answer.
        """
        found: list[Exported | Unreadable] = []
        for key, stored in zip(keys, self._store.load(keys), strict=True):
            if stored is None:
                continue
            try:
                record = decode(key, stored.data)
            except DamagedRecord as error:
                found.append(Unreadable(id_of(key), _damaged(key, error)))
                continue
            if _is_open(record.snapshot, stored.remaining_ms):
                left_ms = time_left_ms(record.snapshot, stored.remaining_ms)
                found.append(Exported(id_of(key), record, left_ms))
        return found

    def take(
        self, arrivals: Sequence[Arrival], *, replace: bool, full: ServiceError | None
    ) -> Mapping[str, Taken | ServiceError]:
        """Import sessions with different keys; return what became of each, by key.

        Args:
            arrivals: The sessions.
            replace: True to replace sessions that exist.
            full: The error for new sessions, if the tenant may have no more.

        Raises:
            Unavailable: if Redis does not answer; the sessions may or may not have been imported.
        """
        results: dict[str, Taken | ServiceError] = {}
        waiting = list(arrivals)
        for _ in range(ATTEMPTS):
            commits: list[Commit] = []
            for arrival, stored in zip(waiting, self._store.load([each.key for each in waiting]), strict=True):
                there = _there(arrival.key, stored)
                try:
                    results[arrival.key] = self._decide(arrival, there, replace=replace, full=full)
                except ServiceError as error:
                    results[arrival.key] = error
                    continue
                if results[arrival.key] != _UNCHANGED:
                    commits.append(_commit(arrival, there.stamp))
            verdicts = self._store.commit(commits)
            results.update(_failures(verdicts))
            waiting = [each for each in waiting if verdicts.get(each.key) is Verdict.CONFLICT]
            if not waiting:
                break
        return results

    def _decide(self, arrival: Arrival, there: _There, *, replace: bool, full: ServiceError | None) -> Taken:
        """Return what importing the session will have done.

        Raises:
            ServiceError: if it must not be imported.
        """
        _check_usable(arrival, self._registry)
        if there.exists:
            session_id = id_of(arrival.key)
            if there.record and to_portable(session_id, there.record) == to_portable(session_id, arrival.record):
                return _UNCHANGED
            if not replace:
                raise _exists(session_id, there.record)
        elif full is not None:
            raise full
        return Taken(there.record.newest.version if there.record else None, was_there=there.exists)


_UNCHANGED = Taken(was_there=True, changed=False)


def _is_open(snapshot: Snapshot, remaining_ms: int) -> bool:
    return not snapshot.is_over and not has_expired(snapshot, remaining_ms)


def _there(key: str, stored: Stored | None) -> _There:
    if stored is None:
        return _There(b"", exists=False)
    stamp = stored.data[-STAMP_BYTES:]
    try:
        record = decode(key, stored.data)
    except DamagedRecord:
        return _There(stamp, exists=True)
    exists = _is_open(record.snapshot, stored.remaining_ms)
    return _There(stamp, exists, record if exists else None)


def _commit(arrival: Arrival, stamp: bytes) -> Commit:
    """Return the commit that puts the session where `stamp` is, with a new one: copies in memory are stale then."""
    payload = encode_record(arrival.key, arrival.record, os.urandom(NONCE_BYTES))
    life = lifetime_ms(arrival.record.snapshot, arrival.left_ms)
    return Commit(arrival.key, Operation.REPLACE, stamp, payload, life)


def _failures(verdicts: Mapping[str, Verdict | ServiceError]) -> dict[str, Taken | ServiceError]:
    failures: dict[str, Taken | ServiceError] = {}
    for key, verdict in verdicts.items():
        if isinstance(verdict, ServiceError):
            failures[key] = verdict
        elif verdict is Verdict.NOT_A_RECORD:
            failures[key] = PreconditionFailed(
                f"the key of session {quoted(id_of(key))} in Redis holds other data; delete it, then import again",
                Reason.RECORD_DAMAGED,
            )
        elif verdict is Verdict.CONFLICT:
            failures[key] = Unavailable(
                f"others kept writing to session {quoted(id_of(key))}; it was not imported. Stop its callers, then "
                "import it again",
                Reason.CONTENDED,
            )
    return failures


def _check_usable(arrival: Arrival, registry: Registry) -> None:
    """Check that this server could go on with the session.

    Raises:
        NotFound: if it does not have the model.
        PreconditionFailed: if its model of that name is another, or the record does not fit the model.
        Unavailable: if the model is being loaded.
    """
    snapshot, name = arrival.record.snapshot, quoted(id_of(arrival.key))
    wanted = f"model {quoted(snapshot.model)} version {quoted(snapshot.model_version)}"
    model = registry.find(snapshot.model, snapshot.model_version)
    if model is None:
        registry.check_coming(snapshot.model, snapshot.model_version)
        raise NotFound(
            f"session {name} runs on {wanted}, which this server does not have; copy the model's folder from the old "
            "server, then import again",
            Reason.MODEL_NOT_FOUND,
        )
    if model.digest_bytes != snapshot.model_digest:
        raise PreconditionFailed(
            f"session {name} runs on {wanted} with digest {snapshot.model_digest.hex()}, but this server's has "
            f"{model.digest}; copy the model's folder from the old server, then import again",
            Reason.MODEL_CHANGED,
        )
    try:
        load(arrival.key, Stored(encode_record(arrival.key, arrival.record, bytes(NONCE_BYTES)), -1), registry)
    except PreconditionFailed as error:
        cause = error.message.rpartition("; ")[0]
        raise PreconditionFailed(f"{cause}; export the session again", error.reason) from error


def _exists(session_id: str, record: Record | None) -> AlreadyExists:
    at = f"at {record.newest.version}" if record else "and its record is damaged"
    return AlreadyExists(
        f"session {quoted(session_id)} exists already, {at}; replace it, or leave it out", Reason.SESSION_EXISTS
    )


def _damaged(key: str, error: DamagedRecord) -> PreconditionFailed:
    return PreconditionFailed(
        f"the record of session {quoted(id_of(key))} is damaged: {error}; close the session, or restore it from an "
        "earlier export",
        Reason.RECORD_DAMAGED,
    )
