"""Encodes the part of a record that only few sessions have: options with a tag each.

    options = (tag (1 byte) length (2 bytes) content)*

A new option needs a new tag, not a new format: a server refuses a record with an unknown tag.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from statecast.service.binding import Binding

_OPTION = struct.Struct("<BH")
_NUMBER = struct.Struct("<Q")
_TIME_ZONE, _MAX_AHEAD, _FREQUENCY, _BINDING, _UPGRADES = 1, 2, 3, 4, 5  # tags
DIGEST_BYTES = 8


class Upgraded(NamedTuple):
    """An upgrade that the session remembers: the digest of its request, and the session's step."""

    digest: bytes
    step: int


class HasOptions(Protocol):
    """The fields of a snapshot that are options; they have the names that `decode_options` returns."""

    time_zone: str
    max_ahead_ms: int | None
    frequency: str
    binding: Binding | None
    upgrades: dict[bytes, Upgraded]


def encode_options(snapshot: HasOptions) -> bytes:
    """Encode a snapshot's options; empty if it has none."""
    options = {}
    if snapshot.time_zone:
        options[_TIME_ZONE] = snapshot.time_zone.encode()
    if snapshot.max_ahead_ms is not None:
        options[_MAX_AHEAD] = _NUMBER.pack(snapshot.max_ahead_ms)
    if snapshot.frequency:
        options[_FREQUENCY] = snapshot.frequency.encode()
    if snapshot.binding is not None:
        options[_BINDING] = _NUMBER.pack(snapshot.binding.revision) + snapshot.binding.alias.encode()
    if snapshot.upgrades:
        options[_UPGRADES] = b"".join(
            bytes([len(name)]) + name + upgraded.digest + _NUMBER.pack(upgraded.step)
            for name, upgraded in snapshot.upgrades.items()
        )
    return b"".join(_OPTION.pack(tag, len(content)) + content for tag, content in options.items())


def decode_options(data: bytes) -> dict[str, Any]:
    """Decode the fields of a snapshot that are options.

    Raises:
        ValueError, struct.error, IndexError: if the bytes are not options.
    """
    options: dict[str, Any] = {}
    at = 0
    while at < len(data):
        tag, length = _OPTION.unpack_from(data, at)
        at += _OPTION.size + length
        if at > len(data):
            raise ValueError("an option is longer than the record")
        content = data[at - length : at]
        if tag == _TIME_ZONE:
            options["time_zone"] = content.decode()
        elif tag == _MAX_AHEAD:
            (options["max_ahead_ms"],) = _NUMBER.unpack(content)
        elif tag == _FREQUENCY:
            options["frequency"] = content.decode()
        elif tag == _BINDING:
            (revision,) = _NUMBER.unpack_from(content)
            options["binding"] = Binding(content[_NUMBER.size :].decode(), revision)
        elif tag == _UPGRADES:
            options["upgrades"] = dict(_decode_upgrades(content))
        else:
            raise ValueError(f"option {tag} is unknown, so a newer server wrote it; update this one")
    return options


def _decode_upgrades(data: bytes) -> Iterator[tuple[bytes, Upgraded]]:
    at = 0
    while at < len(data):
        digest_at = at + 1 + data[at]
        step_at = digest_at + DIGEST_BYTES
        (step,) = _NUMBER.unpack_from(data, step_at)
        yield data[at + 1 : digest_at], Upgraded(data[digest_at:step_at], step)
        at = step_at + _NUMBER.size
