"""A portable record is the same session under any key, and keeps the time that is left."""

import math
import struct
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.redis_process import RedisProcess

from statecast.service.session_key import session_key
from statecast.service.store.connection import connect
from statecast.service.store.portable import encode_record, from_portable, lifetime_ms, time_left_ms, to_portable
from statecast.service.store.record import (
    DamagedRecord,
    Entry,
    Snapshot,
    checksum_of,
    decode,
    encode_entry,
    encode_snapshot,
    new_stamp,
    tombstone_ms,
)
from statecast.service.store.redis_store import Commit, Operation, Store
from statecast.service.version import Version

DAY_MS = 86_400_000


def record_data(key: str, *, entries: int = 3, ttl_ms: int = DAY_MS) -> bytes:
    """Return a record with everything that a session may have."""
    snapshot = Snapshot(
        Version(5, 77), 10**18, ttl_ms, {b"id": b"12345678"}, deque([Version(4, 3), Version(5, 77)]),
        {"region": "north", "kind": ""}, 0, model="shop", model_version="2", model_digest=bytes(range(32)), width=2,
        state=b"state", time_zone="Asia/Kolkata", is_on_wall_clock=True,
    )  # fmt: skip
    data = encode_snapshot(key, snapshot, new_stamp(snapshot.version))
    for step in range(6, 6 + entries):
        rows, time = struct.pack("<2d", step, math.nan), 10**18 + step if step % 3 else None
        request_id, digest = (b"%d" % step, b"abcdefgh") if step % 2 else (b"", b"")
        entry = Entry(1, rows, time, request_id, digest, Version(step, step))
        data += encode_entry(checksum_of(key), entry, new_stamp(entry.version))
    return data


@given(st.sampled_from(["default", "acme"]), st.sampled_from(["default", "other"]), st.integers(0, 5))
def test_nothing_but_the_stamps_changes(source: str, target: str, entries: int) -> None:
    name = "pump 7"
    first = decode(session_key(source, name), record_data(session_key(source, name), entries=entries))
    portable = to_portable(name, first)
    key = session_key(target, name)
    second = decode(key, encode_record(key, from_portable(name, portable), b"nonce123"))
    assert second.snapshot == first.snapshot
    assert len(second.entries) == entries
    assert second.entries == first.entries
    assert second.stamp == b"nonce123" + first.newest.version.tag.to_bytes(8, "little")
    assert to_portable(name, second) == portable


def test_a_portable_record_belongs_to_its_session() -> None:
    portable = to_portable("a", decode("a", record_data("a")))
    with pytest.raises(DamagedRecord):
        from_portable("b", portable)
    with pytest.raises(DamagedRecord):
        decode(session_key("acme", "a"), portable)


@pytest.mark.parametrize("left_ms", [1, 15, 16, 17, 1000, 12_345, DAY_MS // 2, DAY_MS, None])
def test_the_time_that_is_left_is_committed(any_redis: RedisProcess, tmp_path: Path, left_ms: int | None) -> None:
    store = Store(connect(any_redis.url, 2.0), f"portable-{tmp_path.name}")
    data = record_data("a")
    snapshot = decode("a", data).snapshot
    store.commit([Commit("a", Operation.REPLACE, b"", data, lifetime_ms(snapshot, left_ms))])
    (stored,) = store.load(["a"])
    assert stored is not None
    expected = DAY_MS if left_ms is None else left_ms
    assert expected - 1000 < stored.remaining_ms - tombstone_ms(DAY_MS) <= expected + 1
    assert time_left_ms(snapshot, -1) is None
    any_redis.client.delete(f"portable-{tmp_path.name}:default:a")
