import os
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.service.session_key import session_key
from statecast.service.store.record import (
    FORMATS,
    DamagedRecord,
    Entry,
    RequestMark,
    Snapshot,
    decode,
    encode_entry,
    encode_snapshot,
    new_stamp,
)
from statecast.service.version import Version

times = st.none() | st.integers(-(2**62), 2**62)
marks = st.builds(RequestMark, st.binary(min_size=1, max_size=64), st.binary(min_size=8, max_size=8))
versions = st.builds(Version, st.integers(0, 2**40), st.integers(0, 2**64 - 1))
snapshots = st.builds(
    Snapshot,
    model=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40),
    model_version=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=10),
    model_digest=st.binary(min_size=32, max_size=32),
    width=st.integers(1, 3),
    state=st.binary(max_size=200),
    version=versions,
    last_time=times,
    ttl_ms=st.integers(1, 2**50),
    recent=st.lists(marks, max_size=16).map(tuple),
    lineage=st.lists(versions, max_size=16).map(tuple),
    categories=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3),
    closed=st.booleans(),
    time_zone=st.text(max_size=64),
    is_on_wall_clock=st.booleans(),
    max_ahead_ms=st.none() | st.integers(0, 2**50),
)


@st.composite
def records(draw: st.DrawFn) -> tuple[str, Snapshot, list[Entry], bytes]:
    name = draw(st.text(min_size=1, max_size=30))
    snapshot = draw(snapshots)
    data = encode_snapshot(name, snapshot, new_stamp(snapshot.version))
    entries = []
    step = snapshot.version.step
    for _ in range(draw(st.integers(0, 4))):
        values = draw(st.lists(st.floats(), min_size=snapshot.width, max_size=4 * snapshot.width))
        rows = np.array(values[: len(values) // snapshot.width * snapshot.width]).reshape(-1, snapshot.width)
        step += len(rows)
        entry = Entry(rows, draw(times), draw(st.none() | marks), Version(step, draw(st.integers(0, 2**64 - 1))))
        data += encode_entry(name, entry, new_stamp(entry.version))
        entries.append(entry)
    return name, snapshot, entries, data


@given(records())
def test_what_was_encoded_is_decoded(case: tuple[str, Snapshot, list[Entry], bytes]) -> None:
    name, snapshot, entries, data = case
    record = decode(name, data)
    assert record.snapshot == snapshot
    assert record.stamp == data[-16:]
    for decoded, entry in zip(record.entries, entries, strict=True):
        np.testing.assert_array_equal(decoded.rows, entry.rows)
        assert (decoded.last_time, decoded.mark, decoded.version) == (entry.last_time, entry.mark, entry.version)
    assert int.from_bytes(data[-8:], "little") == (entries[-1] if entries else snapshot).version.tag


@given(records(), st.data())
def test_a_flipped_bit_is_noticed(case: tuple[str, Snapshot, list[Entry], bytes], draw: st.DataObject) -> None:
    name, _, _, data = case
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedRecord):
        decode(name, bytes(damaged))


def test_every_flipped_bit_of_an_entry_is_noticed() -> None:
    snapshot = Snapshot("m", "1", bytes(32), 1, b"state", Version(3, 7), None, 1000)
    begin = encode_snapshot("s", snapshot, new_stamp(snapshot.version))
    mark = RequestMark(b"id", bytes(8))
    entry = encode_entry("s", Entry(np.array([[1.5], [np.nan]]), 5, mark, Version(5, 9)), new_stamp(Version(5, 9)))
    for bit in range(8 * len(entry)):
        damaged = bytearray(entry)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedRecord):
            decode("s", begin + bytes(damaged))


@given(records(), st.data())
def test_a_cut_inside_a_part_is_noticed(case: tuple[str, Snapshot, list[Entry], bytes], draw: st.DataObject) -> None:
    name, snapshot, entries, data = case
    ends = {len(encode_snapshot(name, snapshot, os.urandom(16)))}
    for entry in entries:
        ends.add(max(ends) + len(encode_entry(name, entry, os.urandom(16))))
    length = draw.draw(st.integers(0, len(data) - 1).filter(lambda at: at not in ends))
    with pytest.raises(DamagedRecord):
        decode(name, data[:length])


@given(records())
def test_the_record_of_another_session_is_noticed(case: tuple[str, Snapshot, list[Entry], bytes]) -> None:
    name, _, _, data = case
    with pytest.raises(DamagedRecord):
        decode(name + "x", data)


def test_the_record_of_another_tenants_session_of_that_name_is_noticed() -> None:
    snapshot = Snapshot("m", "1", bytes(32), 1, b"", Version(0, 0), None, 1000)
    for tenant, other in (("default", "acme"), ("acme", "default"), ("acme", "acme-2")):
        data = encode_snapshot(session_key(tenant, "s"), snapshot, bytes(16))
        assert decode(session_key(tenant, "s"), data).snapshot == snapshot
        with pytest.raises(DamagedRecord):
            decode(session_key(other, "s"), data)


@pytest.mark.parametrize("size", [0, 17, 29])
def test_an_entry_without_room_for_itself_is_refused(size: int) -> None:
    """Its checksum may hold; a reader must not stay at one place forever."""
    snapshot = Snapshot("m", "1", bytes(32), 1, b"", Version(0, 0), None, 1000)
    data = encode_snapshot("s", snapshot, bytes(16))
    checksum = zlib.crc32(
        bytes(max(0, size - 14)), zlib.crc32(size.to_bytes(4, "little") + bytes(10), zlib.crc32(b"s"))
    )
    entry = size.to_bytes(4, "little") + checksum.to_bytes(4, "little") + bytes(40)
    with pytest.raises(DamagedRecord, match="shorter than its own header and stamp"):
        decode("s", data + entry)


@given(records())
def test_another_format_is_named(case: tuple[str, Snapshot, list[Entry], bytes]) -> None:
    name, _, _, data = case
    for unknown in (min(FORMATS) - 1, max(FORMATS) + 1):
        with pytest.raises(DamagedRecord, match="not a record of format 3 or 4"):
            decode(name, data[:4] + bytes([unknown]) + data[5:])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (b"\x03\x01\x00x", "option 3 is unknown, so a newer server wrote it"),
        (b"\x01\xff\x00Europe/Berlin", "an option is longer than the record"),
        (b"\x02\x01\x00x", "not readable"),
        (b"\x01\x02\x00\xff\xff", "not readable"),
        (b"\x01", "not readable"),
    ],
)
def test_options_that_cannot_be_read_are_refused(options: bytes, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = Snapshot("m", "1", bytes(32), 1, b"", Version(0, 0), None, 1000)
    monkeypatch.setattr("statecast.service.store.record._encode_options", lambda _: options)
    with pytest.raises(DamagedRecord, match=says):
        decode("a", encode_snapshot("a", snapshot, bytes(16)))
