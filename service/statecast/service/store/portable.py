"""Records outside of their Redis: the same session under another key, with other stamps."""

from dataclasses import replace

from statecast.service.store.record import (
    NONCE_BYTES,
    Record,
    Snapshot,
    checksum_of,
    decode,
    encode_entry,
    encode_snapshot,
    stamp_of,
    tombstone_ms,
)

_NO_NONCE = bytes(NONCE_BYTES)


def encode_record(key: str, record: Record, nonce: bytes) -> bytes:
    """Encode a record under `key`; its parts share a nonce, since only the last stamp is compared."""
    snapshot = encode_snapshot(key, record.snapshot, stamp_of(nonce, record.snapshot.version))
    checksum = checksum_of(key)
    return snapshot + b"".join(
        encode_entry(checksum, entry, stamp_of(nonce, entry.version)) for entry in record.entries
    )


def to_portable(session_id: str, record: Record) -> bytes:
    """Encode a record so that any tenant's server can decode it. Equal sessions have equal portable records.

    The revision of its binding is left out, since another Redis has other policies.
    """
    if (binding := record.snapshot.binding) is not None:
        record = replace(record, snapshot=replace(record.snapshot, binding=replace(binding, revision=0)))
    return encode_record(session_id, record, _NO_NONCE)


def from_portable(session_id: str, data: bytes) -> Record:
    """Decode what `to_portable` has encoded.

    Raises:
        DamagedRecord: if the bytes are truncated, changed, of another session or of an unknown format.
    """
    return decode(session_id, data)


def time_left_ms(snapshot: Snapshot, remaining_ms: int) -> int | None:
    """Return the time until the session expires, given the remaining lifetime of its key; None if it never does."""
    return None if remaining_ms < 0 else remaining_ms - tombstone_ms(snapshot.ttl_ms)


def lifetime_ms(snapshot: Snapshot, left_ms: int | None) -> int:
    """Return the lifetime to commit a record with, so that the session expires in `left_ms`; None for its whole life.

    The commit script sets a lifetime a sixteenth longer than asked for.
    """
    whole = tombstone_ms(snapshot.ttl_ms) + (snapshot.ttl_ms if left_ms is None else left_ms)
    return -(-whole * 16 // 17)
