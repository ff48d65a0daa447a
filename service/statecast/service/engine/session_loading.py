"""Loads sessions from their records at the start of a batch."""

from dataclasses import dataclass

import numpy as np

from statecast.model import Frequency, FrequencyError, TimeZoneError, Zone
from statecast.service.engine.clock import times_up_to
from statecast.service.engine.standing import Session, Standing
from statecast.service.errors import PreconditionFailed, quoted
from statecast.service.models.registry import Model, Registry
from statecast.service.session_key import id_of
from statecast.service.store.record import DamagedRecord, Entry, Record, Snapshot, decode, has_expired
from statecast.service.store.redis_store import Stored
from statecast.service.version import Version, chain_each
from statecast.v1.reasons import Reason


@dataclass(frozen=True, slots=True)
class Gone:
    """The trace of a session that was closed or has expired: the reason, and its last version."""

    reason: Reason
    version: Version


@dataclass(slots=True)
class Loaded:
    """What a record says: a session, with the packed state of its snapshot and the data of the steps since then.

    Without a session, `gone` gives the reason if known, and `stamp` is the record's.
    """

    session: Session | None = None
    state: bytes = b""
    replay: bytes = b""
    gone: Gone | None = None
    stamp: bytes = b""


def load(key: str, stored: Stored | None, registry: Registry) -> Loaded:
    """Load a session from its record, if there is one.

    Raises:
        PreconditionFailed: if the record is damaged, or its model is not loaded or has changed.
        Unavailable: if its model is being loaded.
    """
    if stored is None:
        return Loaded()
    try:
        record = decode(key, stored.data)
        if reason := _why_gone(record.snapshot, stored.remaining_ms):
            return Loaded(gone=Gone(reason, record.newest.version), stamp=record.stamp)
        model = _model(key, record.snapshot, registry)
        own_frequency = _own_frequency(record.snapshot, model)
        _check(record, model, own_frequency or model.frequency)
        zone = Zone.parse(record.snapshot.time_zone)
    except TimeZoneError as error:
        raise PreconditionFailed(
            f"the record of session {quoted(id_of(key))}: {error}; this server's time zone data may be too old, so "
            "update it or install the package tzdata",
            Reason.RECORD_DAMAGED,
        ) from error
    except DamagedRecord as error:
        raise PreconditionFailed(
            f"the record of session {quoted(id_of(key))} is damaged: {error}; close the session, open it again and "
            "send its history again",
            Reason.RECORD_DAMAGED,
        ) from error
    head, entries = record.snapshot, record.entries
    standing = Standing(
        head.version, head.last_time, head.ttl_ms, head.recent, head.lineage, head.categories, head.max_ahead_ms,
        head.ended, model=model, zone=zone, own_frequency=own_frequency,
    )  # fmt: skip
    for entry in entries:
        standing.take(entry)
    session = Session(key, standing, record.stamp, standing.version.step - head.version.step)
    session.replayed = session.steps_since_snapshot
    return Loaded(session, head.state, b"".join([entry.data for entry in entries]), stamp=record.stamp)


def read(key: str, data: bytes) -> Record | None:
    """Decode the record, whatever its model; None if it is damaged."""
    try:
        return decode(key, data)
    except DamagedRecord:
        return None


def _why_gone(snapshot: Snapshot, remaining_ms: int) -> Reason | None:
    if snapshot.closed:
        return Reason.SESSION_CLOSED
    return Reason.SESSION_EXPIRED if has_expired(snapshot, remaining_ms) else None


def _model(key: str, snapshot: Snapshot, registry: Registry) -> Model:
    model = registry.find(snapshot.model, snapshot.model_version)
    if model is None:
        registry.check_coming(snapshot.model, snapshot.model_version)
    if model is None or model.digest_bytes != snapshot.model_digest:
        state = "is not loaded" if model is None else "has other weights now"
        raise PreconditionFailed(
            f"session {quoted(id_of(key))} was written by model {snapshot.model} version {snapshot.model_version}, "
            f"which {state}; bring that model back, or close the session and open it again",
            Reason.MODEL_CHANGED,
        )
    return model


def _own_frequency(snapshot: Snapshot, model: Model) -> Frequency | None:
    """Return the frequency that the session was opened with; None without one."""
    if not snapshot.frequency:
        return None
    if model.frequency:
        raise DamagedRecord(f"it has a frequency, {snapshot.frequency!r}, and so has its model")
    try:
        return Frequency.parse(snapshot.frequency)
    except FrequencyError as error:
        raise DamagedRecord(f"its frequency is {error}") from error


def _check(record: Record, model: Model, frequency: Frequency | None) -> None:
    """Check that an intact record fits the model, and that its entries lead to their version tags."""
    snapshot = record.snapshot
    if len(snapshot.state) != model.forecaster.layout.nbytes or snapshot.width != model.width:
        raise DamagedRecord("its state does not have the model's size")
    entries = record.entries
    if not entries:
        return
    rows = np.frombuffer(b"".join([entry.data for entry in entries]), "<f8").reshape(-1, model.width)
    times = None
    if frequency is not None:
        times = [time for entry in entries for time in _times(entry, frequency)]
    versions = chain_each(snapshot.version, rows, times, [entry.steps for entry in entries])
    for version, entry in zip(versions, entries, strict=True):
        if version != entry.version:
            raise DamagedRecord(f"its entries do not lead to {entry.version}")


def _times(entry: Entry, frequency: Frequency) -> list[int]:
    if entry.last_time is None:
        raise DamagedRecord("an entry has no time")
    return times_up_to(entry.last_time, entry.steps, frequency)
