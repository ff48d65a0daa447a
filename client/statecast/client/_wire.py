"""Reads arrays from messages: numpy reads the little-endian values of a packed `repeated float` directly."""

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

_VARINT, _EIGHT_BYTES, _LENGTH = 0, 1, 2


def floats(message: Message, number: int) -> NDArray[np.float32]:
    """Return the values of the message's packed `repeated float` field of that number; submessages are skipped."""
    data = message.SerializeToString()
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _LENGTH:
            size, at = _varint(data, at)
            if tag >> 3 == number:
                return np.frombuffer(data, "<f4", size // 4, at).astype(np.float32)
            at += size
        elif kind == _VARINT:
            _, at = _varint(data, at)
        else:
            at += 8 if kind == _EIGHT_BYTES else 4
    return np.empty(0, np.float32)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the varint at a position, and the position after it."""
    number = data[at]
    if number < 0x80:
        return number, at + 1
    number, shift = number & 0x7F, 7
    while data[at := at + 1] >= 0x80:
        number |= (data[at] & 0x7F) << shift
        shift += 7
    return number | data[at] << shift, at + 1
