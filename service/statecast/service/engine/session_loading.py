"""Loads sessions from their records at the start of a batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from statecast.model import Frequency, FrequencyError, TimeZoneError, Zone
from statecast.service.engine.clock import times_up_to
from statecast.service.engine.standing import Session, Standing
from statecast.service.errors import PreconditionFailed, ServiceError, quoted
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


@dataclass(frozen=True, slots=True)
class Move:
    """A session's move to another model, or why it stays on its own.

    Attributes:
        steps: Number of time steps that were re-encoded.
        is_exact: True if that was its whole history.
        remaining_ms: Remaining lifetime of its key; -1 means no limit.
        refused: Why it stays; None if it moves.
    """

    steps: int = 0
    is_exact: bool = False
    remaining_ms: int = -1
    refused: ServiceError | None = None


@dataclass(slots=True)
class Loaded:
    """What a record says: a session, with the packed state of its snapshot and the data of the steps since then.

    Without a session, `gone` gives the reason if known, and `stamp` is the record's. `move` says what became of a
    session that was to move to another model.
    """

    session: Session | None = None
    state: bytes = b""
    replay: bytes = b""
    gone: Gone | None = None
    stamp: bytes = b""
    move: Move | None = None


def load(key: str, stored: Stored | None, registry: Registry) -> Loaded:
    """Load a session from its record, if there is one.

    Raises:
        PreconditionFailed: if the record is damaged, or its model is not loaded or has changed.
        Unavailable: if its model is being loaded.
    """
    record = open_record(key, stored)
    return record if isinstance(record, Loaded) else load_record(key, record, registry)


def open_record(key: str, stored: Stored | None) -> Record | Loaded:
    """Return a session's record, whatever its model; or what is left of a session that is gone.

    Raises:
        PreconditionFailed: if the record is damaged.
    """
    if stored is None:
        return Loaded()
    with intact(key):
        record = decode(key, stored.data)
    if reason := _why_gone(record.snapshot, stored.remaining_ms):
        return Loaded(gone=Gone(reason, record.newest.version), stamp=record.stamp)
    return record


def load_record(key: str, record: Record, registry: Registry) -> Loaded:
    """Load a session on its own model.

    Raises:
        PreconditionFailed: if the record does not fit its model, or that is not loaded or has changed.
        Unavailable: if it is being loaded.
    """
    model = _model(key, record.snapshot, registry)
    with intact(key):
        own_frequency = frequency_of(record.snapshot, model.frequency)
        check_record(record, model.width, model.forecaster.layout.nbytes, own_frequency or model.frequency)
        standing = standing_of(record, model, own_frequency)
    session = Session(key, standing, record.stamp, standing.version.step - record.snapshot.version.step)
    session.replayed = session.steps_since_snapshot
    replay = b"".join([entry.data for entry in record.entries])
    return Loaded(session, record.snapshot.state, replay, stamp=record.stamp)


def standing_of(record: Record, model: Model, own_frequency: Frequency | None) -> Standing:
    """Return a session's standing on a model, after all entries of its record.

    Raises:
        TimeZoneError: if its zone is unknown.
    """
    head = record.snapshot
    standing = Standing(
        head.version, head.last_time, head.ttl_ms, head.recent, head.lineage, head.categories, head.max_ahead_ms,
        head.ended, head.binding, head.upgrades, model=model, zone=Zone.parse(head.time_zone),
        own_frequency=own_frequency,
    )  # fmt: skip
    for entry in record.entries:
        standing.take(entry)
    return standing


@contextmanager
def intact(key: str) -> Iterator[None]:
    """Turn what is wrong with the session's record into the error for its caller."""
    try:
        yield
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
        registry.check_newer(snapshot.model, snapshot.model_version)
    if model is None or model.digest_bytes != snapshot.model_digest:
        state = "is not loaded" if model is None else "has other weights now"
        raise PreconditionFailed(
            f"session {quoted(id_of(key))} was written by model {snapshot.model} version {snapshot.model_version}, "
            f"which {state}; bring that model back, or move the session to one that is here (UpgradeSession)",
            Reason.MODEL_CHANGED,
        )
    return model


def frequency_of(snapshot: Snapshot, models: Frequency | None) -> Frequency | None:
    """Return the frequency that the session was opened with; None without one. `models` is that of its model."""
    if not snapshot.frequency:
        return None
    if models:
        raise DamagedRecord(f"it has a frequency, {snapshot.frequency!r}, and so has its model")
    try:
        return Frequency.parse(snapshot.frequency)
    except FrequencyError as error:
        raise DamagedRecord(f"its frequency is {error}") from error


def check_record(record: Record, width: int, state_bytes: int, frequency: Frequency | None) -> None:
    """Check that an intact record fits a model of this width, and that its entries lead to their version tags.

    Raises:
        DamagedRecord: if not.
    """
    snapshot = record.snapshot
    if len(snapshot.state) != state_bytes or snapshot.width != width:
        raise DamagedRecord("its state does not have the model's size")
    entries = record.entries
    if not entries:
        return
    rows = np.frombuffer(b"".join([entry.data for entry in entries]), "<f8").reshape(-1, width)
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
