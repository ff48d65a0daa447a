"""Mutated messages and random bytes."""

from collections.abc import Callable
from functools import cache

from hypothesis import strategies as st

from fuzz.messages import structured
from fuzz.rpcs import RPCS, Rpc

Mutation = Callable[[bytes, int, int], bytes]
"""A function that takes data, a position and a number, and returns mutated data."""

_LENGTH_DELIMITED = 2


def varint(number: int) -> bytes:
    """Encode a number as protobuf does."""
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
    """Repeat all fields, so that the last one counts and messages merge."""
    return (data + data[at:] * (number % 3 + 1))[:1_000_000]


def change_wire_type(data: bytes, at: int, number: int) -> bytes:
    """Change the wire type of the first tag."""
    at = at if number % 2 else 0
    return data[:at] + bytes([data[at] & 0xF8 | number % 8]) + data[at + 1 :] if data else data


def nest(data: bytes, at: int, number: int) -> bytes:
    """Nest the message in itself, up to a few hundred levels deep, in one of its first fields."""
    field = at % 8 + 1
    for _ in range(number % 400):
        data = bytes([field << 3 | _LENGTH_DELIMITED]) + varint(len(data)) + data
        if len(data) > 1_000_000:
            break
    return data


def group(data: bytes, at: int, number: int) -> bytes:
    """Add nested groups, closed or not; this syntax has no groups."""
    depth, field = number % 300, at % 16
    closed = depth if number % 2 else depth // 2
    return data + bytes([field << 3 & 0x78 | 3]) * depth + bytes([field << 3 & 0x78 | 4]) * closed


def append_unknown(data: bytes, at: int, number: int) -> bytes:
    """Add an unknown field."""
    return data + varint((at + 1000) << 3) + varint(number)


def claim_length(data: bytes, at: int, number: int) -> bytes:
    """Add a field that claims to be longer than the data."""
    return data[:at] + bytes([at % 8 + 1 << 3 | _LENGTH_DELIMITED]) + varint(number)


def overlong(data: bytes, at: int, number: int) -> bytes:
    """Add a number with more bytes than allowed."""
    return data[:at] + bytes([at % 8 + 1 << 3]) + b"\xff" * (number % 14) + b"\x01" + data[at:]


MUTATIONS: tuple[Mutation, ...] = (
    flip, cut, truncate, insert, repeat, change_wire_type, nest, group, append_unknown, claim_length, overlong,
)  # fmt: skip

_steps = st.lists(
    st.tuples(st.sampled_from(MUTATIONS), st.integers(0, 2**16), st.integers(0, 2**64 - 1)), min_size=1, max_size=4
)


def apply(data: bytes, steps: list[tuple[Mutation, int, int]]) -> bytes:
    """Apply all mutations to the data; positions count modulo its length."""
    for mutate, at, number in steps:
        data = mutate(data, at % max(len(data), 1), number)
    return data


@cache
def mutated(rpc: Rpc) -> st.SearchStrategy[bytes]:
    """Generate damaged requests of this RPC or of another one."""
    others = st.sampled_from(sorted(RPCS)).flatmap(lambda name: structured(RPCS[name]))
    return st.builds(apply, structured(rpc) | structured(rpc) | others, _steps)


def random_bytes() -> st.SearchStrategy[bytes]:
    """Generate any bytes."""
    return st.binary(max_size=200)
