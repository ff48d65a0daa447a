"""Bytes that were a message once, and bytes that never were."""

from collections.abc import Callable
from functools import cache

from hypothesis import strategies as st

from fuzz.messages import structured
from fuzz.rpcs import RPCS, Rpc

Mutation = Callable[[bytes, int, int], bytes]
"""From data, a position and a number to other data."""

_LENGTH_DELIMITED = 2


def varint(number: int) -> bytes:
    """The number as protobuf writes it."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*encoded, number))


def flip(data: bytes, at: int, number: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << number % 8]) + data[at + 1 :] if data else data


def cut(data: bytes, at: int, number: int) -> bytes:
    return data[:at] + data[at + number % 16 + 1 :]


def truncate(data: bytes, at: int, _: int) -> bytes:
    return data[:at]


def insert(data: bytes, at: int, number: int) -> bytes:
    return data[:at] + number.to_bytes(8, "little")[: number % 9] + data[at:]


def repeat(data: bytes, at: int, number: int) -> bytes:
    """All fields once more, or several times: the last one counts, and messages merge."""
    return (data + data[at:] * (number % 3 + 1))[:1_000_000]


def change_wire_type(data: bytes, at: int, number: int) -> bytes:
    """The first tag says that something else follows it."""
    at = at if number % 2 else 0
    return data[:at] + bytes([data[at] & 0xF8 | number % 8]) + data[at + 1 :] if data else data


def nest(data: bytes, at: int, number: int) -> bytes:
    """The message inside itself, as its own first fields, up to a few hundred levels deep."""
    field = at % 8 + 1
    for _ in range(number % 400):
        data = bytes([field << 3 | _LENGTH_DELIMITED]) + varint(len(data)) + data
        if len(data) > 1_000_000:
            break
    return data


def group(data: bytes, at: int, number: int) -> bytes:
    """Groups, which this syntax does not have, opened and perhaps closed, on top of each other."""
    depth, field = number % 300, at % 16
    closed = depth if number % 2 else depth // 2
    return data + bytes([field << 3 & 0x78 | 3]) * depth + bytes([field << 3 & 0x78 | 4]) * closed


def append_unknown(data: bytes, at: int, number: int) -> bytes:
    """A field of a number that nobody has given out."""
    return data + varint((at + 1000) << 3) + varint(number)


def claim_length(data: bytes, at: int, number: int) -> bytes:
    """A field that claims to be longer than all that there is."""
    return data[:at] + bytes([at % 8 + 1 << 3 | _LENGTH_DELIMITED]) + varint(number)


def overlong(data: bytes, at: int, number: int) -> bytes:
    """A number in more bytes than a number may have."""
    return data[:at] + bytes([at % 8 + 1 << 3]) + b"\xff" * (number % 14) + b"\x01" + data[at:]


MUTATIONS: tuple[Mutation, ...] = (
    flip, cut, truncate, insert, repeat, change_wire_type, nest, group, append_unknown, claim_length, overlong,
)  # fmt: skip

_steps = st.lists(
    st.tuples(st.sampled_from(MUTATIONS), st.integers(0, 2**16), st.integers(0, 2**64 - 1)), min_size=1, max_size=4
)


def apply(data: bytes, steps: list[tuple[Mutation, int, int]]) -> bytes:
    """The data after all mutations; positions count modulo its length."""
    for mutate, at, number in steps:
        data = mutate(data, at % max(len(data), 1), number)
    return data


@cache
def mutated(rpc: Rpc) -> st.SearchStrategy[bytes]:
    """Requests of this RPC, or of another one, that have been damaged."""
    others = st.sampled_from(sorted(RPCS)).flatmap(lambda name: structured(RPCS[name]))
    return st.builds(apply, structured(rpc) | structured(rpc) | others, _steps)


def random_bytes() -> st.SearchStrategy[bytes]:
    """Anything."""
    return st.binary(max_size=200)
