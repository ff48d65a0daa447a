"""Tells messages with too many parts before they are decoded: an empty part takes two bytes, and far more after."""

from collections.abc import Mapping
from typing import TypeAlias

from google.protobuf.descriptor import Descriptor

MAX_REQUESTS_A_FRAME = 4096
MAX_PARTS = 250_000
"""Most fields of a message, counted in all parts that hold times or categories."""
LARGE_BYTES = 256 * 1024
"""Smaller messages are decoded in any case."""
_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_SIZES = {_FIXED64: 8, _FIXED32: 4, _GROUP: 0, _GROUP_END: 0}
"""Bytes of a field after its tag. The fields of a group are fields of the message as far as their number matters."""
_LONGEST_VARINT = 10

Nested: TypeAlias = Mapping[int, "Nested"]
"""The fields of a message that hold repeated messages, and their own such fields, by number."""


def nested_in(message: Descriptor) -> Nested | None:
    """Return the fields that lead to repeated messages; None if there are none, so that its parts are few."""
    parts = [(field, field.message_type) for field in message.fields if field.message_type]
    inner = {field.number: found for field, kind in parts if (found := nested_in(kind)) is not None}
    return inner if inner or any(field.is_repeated for field, _ in parts) else None


def has_more_fields(message: bytes, most: int, nested: Nested | None = None) -> bool:
    """Return whether a large message has more than `most` fields, those of its `nested` parts included.

    Fields after a malformed one do not count: the decoder does not get to them either.
    """
    return len(message) > LARGE_BYTES and _count(message, 0, len(message), most, nested or {}) > most


def _count(message: bytes, at: int, end: int, most: int, nested: Nested) -> int:
    """Return how many fields there are from one position to another; counting ends once they are more than `most`."""
    fields = 0
    try:
        while at < end and fields <= most:
            tag, at = _read_varint(message, at)
            kind = tag & 7
            if kind == _BYTES:
                length, at = _read_varint(message, at)
                if (inner := nested.get(tag >> 3)) is not None:
                    fields += _count(message, at, min(at + length, end), most - fields, inner)
                at += length
            elif kind == _VARINT:
                _, at = _read_varint(message, at)
            elif kind in _SIZES:
                at += _SIZES[kind]
            else:
                break
            fields += 1
    except IndexError:
        pass
    return fields


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it.

    Raises:
        IndexError: if it has no end within the message, or is longer than a number may be.
    """
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    number = shift = 0
    for position in range(at, at + _LONGEST_VARINT):
        byte = message[position]
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, position + 1
    raise IndexError("a number has no end")
