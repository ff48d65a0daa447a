import os
import struct
import zlib
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.service.binding import Binding
from statecast.service.session_key import session_key
from statecast.service.store.options import Upgraded
from statecast.service.store.record import (
    FORMATS,
    DamagedRecord,
    Entry,
    Snapshot,
    checksum_of,
    decode,
    decode_beginning,
    encode_entry,
    encode_snapshot,
    new_stamp,
)
from statecast.service.version import Version

times = st.none() | st.integers(-(2**62), 2**62)
ids, digests = st.binary(min_size=1, max_size=64), st.binary(min_size=8, max_size=8)
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
    recent=st.dictionaries(ids, digests, max_size=16),
    lineage=st.lists(versions, max_size=17).map(lambda listed: deque(listed, maxlen=17)),
    categories=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3),
    closed=st.booleans(),
    time_zone=st.text(max_size=64),
    is_on_wall_clock=st.booleans(),
    max_ahead_ms=st.none() | st.integers(0, 2**50),
    frequency=st.text(max_size=32),
    binding=st.none() | st.builds(Binding, st.text(max_size=64), st.integers(0, 2**63)),
    upgrades=st.dictionaries(ids, st.builds(Upgraded, digests, st.integers(0, 2**40)), max_size=4),
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
        steps = len(values) // snapshot.width
        rows = np.array(values[: steps * snapshot.width]).tobytes()
        step += steps
        request_id, digest = draw(st.just((b"", b"")) | st.tuples(ids, digests))
        version = Version(step, draw(st.integers(0, 2**64 - 1)))
        entry = Entry(steps, rows, draw(times), request_id, digest, version)
        data += encode_entry(checksum_of(name), entry, new_stamp(entry.version))
        entries.append(entry)
    return name, snapshot, entries, data


@given(records())
def test_what_was_encoded_is_decoded(case: tuple[str, Snapshot, list[Entry], bytes]) -> None:
    name, snapshot, entries, data = case
    record = decode(name, data)
    assert record.snapshot == snapshot
    assert record.stamp == data[-16:]
    assert list(record.entries) == entries
    for entry in record.entries:
        assert entry.rows.shape == (entry.steps, snapshot.width)
    assert int.from_bytes(data[-8:], "little") == (entries[-1] if entries else snapshot).version.tag
    beginning = decode_beginning(data[:1024])
    assert beginning == (
        snapshot.model, snapshot.model_version, snapshot.model_digest, snapshot.ttl_ms, snapshot.is_over
    )  # fmt: skip


@given(records(), st.data())
def test_a_flipped_bit_is_noticed(case: tuple[str, Snapshot, list[Entry], bytes], draw: st.DataObject) -> None:
    name, _, _, data = case
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedRecord):
        decode(name, bytes(damaged))


def test_every_flipped_bit_of_an_entry_is_noticed() -> None:
    snapshot = Snapshot(Version(3, 7), None, 1000, model="m", model_version="1", width=1, state=b"state")
    begin = encode_snapshot("s", snapshot, new_stamp(snapshot.version))
    rows = np.array([1.5, np.nan]).tobytes()
    entry = encode_entry(checksum_of("s"), Entry(2, rows, 5, b"id", bytes(8), Version(5, 9)), new_stamp(Version(5, 9)))
    for bit in range(8 * len(entry)):
        damaged = bytearray(entry)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedRecord):
            decode("s", begin + bytes(damaged))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("size", [0, 14, 29])
def test_an_entry_shorter_than_its_header_and_stamp_is_refused_though_its_checksum_holds(size: int) -> None:
    snapshot = Snapshot(Version(3, 7), None, 1000, model="m", model_version="1", width=1)
    begin = encode_snapshot("s", snapshot, new_stamp(snapshot.version))
    body = bytes(max(0, size - 14))
    checksum = zlib.crc32(body, zlib.crc32(struct.pack("<IIIBB", size, 0, 0, 0, 0), zlib.crc32(b"s")))
    entry = struct.pack("<IIIBB", size, checksum, 0, 0, 0) + body
    with pytest.raises(DamagedRecord, match="an entry is shorter than its header"):
        decode("s", begin + entry)


@given(records(), st.data())
def test_a_cut_inside_a_part_is_noticed(case: tuple[str, Snapshot, list[Entry], bytes], draw: st.DataObject) -> None:
    name, snapshot, entries, data = case
    ends = {len(encode_snapshot(name, snapshot, os.urandom(16)))}
    for entry in entries:
        ends.add(max(ends) + len(encode_entry(checksum_of(name), entry, os.urandom(16))))
    length = draw.draw(st.integers(0, len(data) - 1).filter(lambda at: at not in ends))
    with pytest.raises(DamagedRecord):
        decode(name, data[:length])


@given(records())
def test_the_record_of_another_session_is_noticed(case: tuple[str, Snapshot, list[Entry], bytes]) -> None:
    name, _, _, data = case
    with pytest.raises(DamagedRecord):
        decode(name + "x", data)


def test_the_record_of_another_tenants_session_of_that_name_is_noticed() -> None:
    snapshot = Snapshot(Version(0, 0), None, 1000, model="m", model_version="1", width=1)
    for tenant, other in (("default", "acme"), ("acme", "default"), ("acme", "acme-2")):
        data = encode_snapshot(session_key(tenant, "s"), snapshot, bytes(16))
        assert decode(session_key(tenant, "s"), data).snapshot == snapshot
        with pytest.raises(DamagedRecord):
            decode(session_key(other, "s"), data)


@given(records())
def test_another_format_is_named(case: tuple[str, Snapshot, list[Entry], bytes]) -> None:
    name, _, _, data = case
    for unknown in (min(FORMATS) - 1, max(FORMATS) + 1):
        with pytest.raises(DamagedRecord, match="not a record of format 3 or 4"):
            decode(name, data[:4] + bytes([unknown]) + data[5:])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (b"\x7f\x01\x00x", "option 127 is unknown, so a newer server wrote it"),
        (b"\x01\xff\x00Europe/Berlin", "an option is longer than the record"),
        (b"\x02\x01\x00x", "not readable"),
        (b"\x01\x02\x00\xff\xff", "not readable"),
        (b"\x01", "not readable"),
    ],
)
def test_options_that_cannot_be_read_are_refused(options: bytes, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = Snapshot(Version(0, 0), None, 1000, model="m", model_version="1", width=1)
    monkeypatch.setattr("statecast.service.store.record.encode_options", lambda _: options)
    with pytest.raises(DamagedRecord, match=says):
        decode("a", encode_snapshot("a", snapshot, bytes(16)))
