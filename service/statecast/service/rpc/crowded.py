"""Tells messages with too many parts before they are decoded: an empty part takes two bytes, but long to decode."""

MAX_REQUESTS_A_FRAME = 4096
LARGE_BYTES = 256 * 1024
"""Smaller messages are decoded in any case."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def has_more_fields(message: bytes, most: int) -> bool:
    """Return whether a large message has more than `most` fields; one that is malformed has not."""
    if len(message) <= LARGE_BYTES:
        return False
    at = fields = 0
    try:
        while at < len(message) and fields <= most:
            tag, at = _read_varint(message, at)
            kind = tag & 7
            if kind == _VARINT:
                _, at = _read_varint(message, at)
            elif kind == _BYTES:
                length, at = _read_varint(message, at)
                at += length
            elif kind in (_FIXED32, _FIXED64):
                at += 8 if kind == _FIXED64 else 4
            else:
                return False
            fields += 1
    except IndexError:
        return False
    return fields > most


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
