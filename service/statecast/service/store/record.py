"""Encodes a session's record in Redis: a snapshot, then one entry for each request that has appended since.

    record   = snapshot entry*
    snapshot = header names categories state recent lineage options stamp
    entry    = header request-id rows stamp
    stamp    = nonce (8 bytes, random for each commit) tag (8 bytes, the session's version tag)

All numbers are little-endian. The last 16 bytes of a record are always the newest stamp, which the commit script
compares with the one that the engine computed from. Each part has a checksum over itself and the session's name.

Options hold what few sessions have (`options.py`). A record without options is of format 3, which has no such part;
others are of format 4.

A session that was closed or has expired leaves a tombstone for a while. A closed session's is a record that says so. An
expired session's is its record, which Redis keeps for `tombstone_ms` longer than the session lives.
"""

import os
import struct
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import NamedTuple, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from statecast.service.binding import Binding
from statecast.service.store.options import DIGEST_BYTES, Upgraded, decode_options, encode_options
from statecast.service.version import Version

FORMATS = PLAIN, WITH_OPTIONS = 3, 4
MAGIC = b"SCST"
STAMP_BYTES = 16
NONCE_BYTES = 8
REMEMBERED_REQUESTS = 16
"""Request ids that a session remembers."""
REMEMBERED_VERSIONS = REMEMBERED_REQUESTS + 1
"""Versions that a session remembers, including the one before the oldest of those requests."""
REMEMBERED_UPGRADES = 4
"""Request ids of upgrades that a session remembers, none for longer than those of the requests before it."""
LONGEST_TRACE_MS = 86_400_000

# magic, format, flags, width, bytes of names, of categories, of state, of recent ids and of lineage, checksum, digest,
# step, last time, ttl
_SNAPSHOT = struct.Struct("<4sBBHHIIHHI32sQqQ")
_OPTIONS_LENGTH = struct.Struct("<H")  # follows, in format 4
# bytes of the entry, checksum, steps, bytes of the request id, flags
_ENTRY = struct.Struct("<IIIBB")
_pack_entry, _ENTRY_BYTES = _ENTRY.pack, _ENTRY.size
_SMALLEST_ENTRY = _ENTRY_BYTES + STAMP_BYTES
_TIME = struct.Struct("<q")
_VERSION = struct.Struct("<QQ")
_LENGTH = struct.Struct("<H")
_TIMED = 1  # flag: the part carries a time
_CLOSED = 2  # flag: the session was closed at this version
_ON_WALL_CLOCK = 4  # flag: the record's times are wall-clock time in the session's zone, not in UTC
_ENDED = 8  # flag: the session only answers repeated requests


class DamagedRecord(Exception):
    """The bytes are not a record of this session; the message says what is wrong."""


@dataclass(slots=True)
class Entry:
    """What one request has appended, and the session's version after it.

    Attributes:
        steps: Number of time steps.
        data: Their rows [time, targets and covariates] as float64, little-endian.
        last_time: Time of the last one; None if only position counts.
        request_id: The request's id, empty without one.
        digest: Digest of the request's content; empty without an id.
        version: The session's version after it.
    """

    steps: int
    data: bytes
    last_time: int | None
    request_id: bytes
    digest: bytes
    version: Version

    @property
    def rows(self) -> NDArray[np.float64]:
        """The rows, float64 [time, targets and covariates]."""
        return np.frombuffer(self.data, "<f8").reshape(self.steps, -1)


@dataclass(slots=True)
class SessionHead:
    """A session at one step without its state: the same in memory and in a record.

    Attributes:
        version: The session's version.
        last_time: Time of its last step; None without one, or if only position counts.
        ttl_ms: Its time to live.
        recent: Digests of the last requests with an id, by that id, the oldest first.
        lineage: Its last versions, the oldest first.
        categories: Its static categories.
        max_ahead_ms: How far ahead observations may be dated; None for the default, 0 for no limit.
        ended: True if it has ended: it only answers repeated requests until it expires.
        binding: The alias that it follows, or its pin; None to go by the policy of its model.
        upgrades: Its last upgrades with an id, by that id, the oldest first.
    """

    version: Version
    last_time: int | None
    ttl_ms: int
    recent: dict[bytes, bytes] = field(default_factory=dict)
    lineage: deque[Version] = field(default_factory=lambda: deque(maxlen=REMEMBERED_VERSIONS))
    categories: Mapping[str, str] = field(default_factory=dict)
    max_ahead_ms: int | None = None
    ended: bool = False
    binding: Binding | None = None
    upgrades: dict[bytes, Upgraded] = field(default_factory=dict)

    def take(self, entry: Entry) -> None:
        """Move on to after `entry`."""
        self.version, self.last_time = entry.version, entry.last_time
        self.lineage.append(entry.version)
        if entry.request_id:
            self.remember(entry.request_id, entry.digest)
        if self.upgrades and len(self.lineage) == REMEMBERED_VERSIONS:
            oldest = self.lineage[0].step
            self.upgrades = {name: each for name, each in self.upgrades.items() if each.step >= oldest}

    def remember_upgrade(self, request_id: bytes, digest: bytes) -> None:
        """Remember an upgrade, apart from the requests that appended: it must push out none of these."""
        self.upgrades[request_id] = Upgraded(digest, self.version.step)
        if len(self.upgrades) > REMEMBERED_UPGRADES:
            del self.upgrades[next(iter(self.upgrades))]

    def remember(self, request_id: bytes, digest: bytes) -> None:
        """Remember a request, and forget the oldest beyond `REMEMBERED_REQUESTS`."""
        self.recent[request_id] = digest
        if len(self.recent) > REMEMBERED_REQUESTS:
            del self.recent[next(iter(self.recent))]

    def copy(self) -> Self:
        """Return a copy that can move on by itself."""
        return replace(self, recent=dict(self.recent), lineage=self.lineage.copy(), upgrades=dict(self.upgrades))


@dataclass(slots=True, kw_only=True)
class Snapshot(SessionHead):
    """The whole session at one step.

    Attributes:
        width: Count of numbers in each of its rows.
        state: Its packed state.
        closed: True if the session was closed at this version.
        time_zone: Name of its time zone, empty for UTC.
        is_on_wall_clock: True if the times of the snapshot and of its entries are wall-clock time there.
        frequency: Time between two steps that the session was opened with, as a pandas alias; empty without one.
    """

    model: str = ""
    model_version: str = ""
    model_digest: bytes = bytes(32)
    width: int = 0
    state: bytes = b""
    closed: bool = False
    time_zone: str = ""
    is_on_wall_clock: bool = False
    frequency: str = ""

    @property
    def is_over(self) -> bool:
        """True if the session was closed or has ended."""
        return self.closed or self.ended


@dataclass(frozen=True, slots=True)
class Record:
    """A session as Redis holds it."""

    snapshot: Snapshot
    entries: tuple[Entry, ...]
    stamp: bytes = field(repr=False)

    @property
    def newest(self) -> Snapshot | Entry:
        """The last part, which has the session's current version."""
        return self.entries[-1] if self.entries else self.snapshot


def new_stamp(version: Version) -> bytes:
    """Return a stamp that no other commit has, for a session at `version`."""
    return stamp_of(os.urandom(NONCE_BYTES), version)


def stamp_of(nonce: bytes, version: Version) -> bytes:
    """Return the stamp of a random nonce and a version."""
    return nonce + version.tag.to_bytes(8, "little")


def tombstone_ms(ttl_ms: int) -> int:
    """Return how long a session's tombstone lasts: as long as its time to live, at most a day."""
    return ttl_ms if ttl_ms < LONGEST_TRACE_MS else LONGEST_TRACE_MS


def has_expired(snapshot: "Snapshot | Beginning", remaining_ms: int) -> bool:
    """Return True if the session has expired, given the remaining lifetime of its key (-1: no limit)."""
    return 0 <= remaining_ms <= tombstone_ms(snapshot.ttl_ms)


def encode_snapshot(key: str, snapshot: Snapshot, stamp: bytes) -> bytes:
    """Encode a record that consists of `snapshot` alone."""
    names = f"{snapshot.model}\0{snapshot.model_version}".encode()
    categories = b"".join(_encode_text(name) + _encode_text(value) for name, value in snapshot.categories.items())
    recent = b"".join(bytes([len(name)]) + name + digest for name, digest in snapshot.recent.items())
    lineage = b"".join(_VERSION.pack(*version) for version in snapshot.lineage)
    flags = (_TIMED if snapshot.last_time is not None else 0) | (_CLOSED if snapshot.closed else 0)
    flags |= _ON_WALL_CLOCK if snapshot.is_on_wall_clock else 0
    flags |= _ENDED if snapshot.ended else 0
    options = encode_options(snapshot)
    format_, length = (WITH_OPTIONS, _OPTIONS_LENGTH.pack(len(options))) if options else (PLAIN, b"")

    def header(checksum: int) -> bytes:
        return _SNAPSHOT.pack(
            MAGIC, format_, flags, snapshot.width, len(names), len(categories), len(snapshot.state), len(recent),
            len(lineage), checksum, snapshot.model_digest, snapshot.version.step, snapshot.last_time or 0,
            snapshot.ttl_ms,
        )  # fmt: skip

    body = length + names + categories + snapshot.state + recent + lineage + options + stamp
    return header(_checksum(checksum_of(key), header(0), body)) + body


def encode_entry(key_checksum: int, entry: Entry, stamp: bytes) -> bytes:
    """Encode the bytes that one more request appends to a record; `key_checksum` is `checksum_of` its key."""
    request_id, last_time, flags = entry.request_id, entry.last_time, 0
    body = request_id + entry.digest + entry.data + stamp
    if last_time is not None:
        body, flags = _TIME.pack(last_time) + body, _TIMED
    size, steps, id_bytes = _ENTRY_BYTES + len(body), entry.steps, len(request_id)
    checksum = _checksum(key_checksum, _pack_entry(size, 0, steps, id_bytes, flags), body)
    return _pack_entry(size, checksum, steps, id_bytes, flags) + body


class Beginning(NamedTuple):
    """What the beginning of a record says of its session; `is_over` if it was closed or has ended."""

    model: str
    model_version: str
    model_digest: bytes
    ttl_ms: int
    is_over: bool


def decode_beginning(data: bytes) -> Beginning | None:
    """Decode the beginning of a record, without its checksum; None if it is not one."""
    try:
        fields = _SNAPSHOT.unpack_from(data)
        magic, format_, flags = fields[:3]
        names_at = _SNAPSHOT.size + (_OPTIONS_LENGTH.size if format_ == WITH_OPTIONS else 0)
        model, model_version = data[names_at : names_at + fields[4]].decode().split("\0")
    except (struct.error, ValueError):
        return None
    if magic != MAGIC or format_ not in FORMATS:
        return None
    return Beginning(model, model_version, fields[10], fields[13], bool(flags & (_CLOSED | _ENDED)))


def decode(key: str, data: bytes) -> Record:
    """Decode the record of `key` from `data`.

    Raises:
        DamagedRecord: if the bytes are truncated, changed, of another session or of an unknown format.
    """
    try:
        name, entries = checksum_of(key), []
        snapshot, at = _decode_snapshot(name, data)
        step = snapshot.version.step
        while at < len(data):
            entry, at = _decode_entry(name, data, at, snapshot.width, step)
            step = entry.version.step
            entries.append(entry)
    except (struct.error, ValueError, IndexError) as error:
        raise DamagedRecord(f"not readable: {error}") from error
    return Record(snapshot, tuple(entries), data[-STAMP_BYTES:])


def _decode_snapshot(name: int, data: bytes) -> tuple[Snapshot, int]:
    fields = _SNAPSHOT.unpack_from(data)
    magic, format_, flags, width = fields[:4]
    checksum, digest, step, last_time, ttl_ms = fields[9:]
    if magic != MAGIC or format_ not in FORMATS:
        raise DamagedRecord(f"not a record of format {PLAIN} or {WITH_OPTIONS}")
    body_at = names_at = _SNAPSHOT.size
    options_length = 0
    if format_ == WITH_OPTIONS:
        (options_length,) = _OPTIONS_LENGTH.unpack_from(data, body_at)
        names_at += _OPTIONS_LENGTH.size
    categories_at, state_at, recent_at, lineage_at, options_at = accumulate(fields[5:9], initial=names_at + fields[4])
    end = options_at + options_length + STAMP_BYTES
    header = _SNAPSHOT.pack(*fields[:9], 0, *fields[10:])
    if end > len(data) or _checksum(name, header, data[body_at:end]) != checksum:
        raise DamagedRecord("the snapshot's checksum does not hold")
    model, model_version = data[names_at:categories_at].decode().split("\0")
    recent = dict(_decode_recent(data[recent_at:lineage_at]))
    lineage = [Version(*pair) for pair in _VERSION.iter_unpack(data[lineage_at:options_at])]
    if len(recent) > REMEMBERED_REQUESTS or len(lineage) > REMEMBERED_VERSIONS:
        raise DamagedRecord("it remembers too many versions or requests")
    snapshot = Snapshot(
        Version(step, _tag(data, end)), last_time if flags & _TIMED else None, ttl_ms,
        recent, deque(lineage, REMEMBERED_VERSIONS), _decode_categories(data[categories_at:state_at]),
        model=model, model_version=model_version, model_digest=digest, width=width, state=data[state_at:recent_at],
        closed=bool(flags & _CLOSED), ended=bool(flags & _ENDED), is_on_wall_clock=bool(flags & _ON_WALL_CLOCK),
        **decode_options(data[options_at : end - STAMP_BYTES]),
    )  # fmt: skip
    return snapshot, end


def _decode_entry(name: int, data: bytes, at: int, width: int, step: int) -> tuple[Entry, int]:
    size, checksum, steps, id_len, flags = _ENTRY.unpack_from(data, at)
    end = at + size
    header = _ENTRY.pack(size, 0, steps, id_len, flags)
    if size < _SMALLEST_ENTRY:  # one of size 0 would be read for ever
        raise DamagedRecord("an entry is shorter than its header")
    if end > len(data) or _checksum(name, header, data[at + _ENTRY.size : end]) != checksum:
        raise DamagedRecord("an entry's checksum does not hold")
    at += _ENTRY.size
    last_time = None
    if flags & _TIMED:
        (last_time,) = _TIME.unpack_from(data, at)
        at += _TIME.size
    request_id = digest = b""
    if id_len:
        digest_at = at + id_len
        request_id, digest = data[at:digest_at], data[digest_at : digest_at + DIGEST_BYTES]
        at = digest_at + DIGEST_BYTES
    rows = data[at : end - STAMP_BYTES]
    if len(rows) != 8 * steps * width:
        raise DamagedRecord("an entry does not hold as many rows as it says")
    return Entry(steps, rows, last_time, request_id, digest, Version(step + steps, _tag(data, end))), end


def _encode_text(text: str) -> bytes:
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded


def _decode_categories(data: bytes) -> dict[str, str]:
    texts = []
    at = 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        texts.append(data[at - length : at].decode())
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _decode_recent(data: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Yield the id and the digest of each remembered request."""
    at = 0
    while at < len(data):
        digest_at = at + 1 + data[at]
        yield data[at + 1 : digest_at], data[digest_at : digest_at + DIGEST_BYTES]
        at = digest_at + DIGEST_BYTES


def _tag(data: bytes, end: int) -> int:
    return int.from_bytes(data[end - 8 : end], "little")


def checksum_of(key: str) -> int:
    """Return the checksum of the session's key, with which that of each part begins."""
    return crc32(key.encode())


def _checksum(name: int, header: bytes, body: bytes) -> int:
    return crc32(body, crc32(header, name))
