"""Requests that append and forecast: ForecastRequest messages of parts that are encoded already.

A message is a sequence of fields: a tag, then a varint, eight bytes, or a length and that many bytes
(protobuf.dev, "Encoding"). The order of the fields does not matter.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeAlias

from statecast.v1 import forecast_pb2

from .types import Version

Key: TypeAlias = bytes
"""The fields session_id and request_id of a response; they match a result with its request."""

_FLOAT64 = struct.Struct("<d").pack
_FIXED64 = struct.Struct("<Q").pack
# ForecastRequest
_SESSION_ID, _OPEN, _OBSERVATIONS, _REQUEST_ID = b"\x0a", b"\x12", b"\x1a", b"\x32"
_IF_VERSION, _LAST_SEEN, _TIMEOUT = b"\x3a", b"\x42", b"\x4a"
# ForecastResponse, whose session_id has the same number
_RESPONSE_REQUEST_ID = b"\x12"
# Observations of one value; Version; Duration
_ONE_VALUE, _STEP, _VERSION_TAG, _SECONDS, _NANOS = b"\x0a\x08", b"\x08", b"\x11", b"\x08", b"\x10"
# ForecastManyRequest, ForecastStreamRequest
_REQUESTS = b"\x0a"
_SMALL = [bytes([number]) for number in range(0x80)]
_SMALL += [bytes([number & 0x7F | 0x80, number >> 7]) for number in range(0x80, 0x4000)]


class Encodable(Protocol):
    """A message, or what can be sent in its place."""

    def SerializeToString(self) -> bytes:  # noqa: N802 (generated messages name it so)
        """Return the encoded message."""


def encode(message: Encodable) -> bytes:
    """Return the encoded message."""
    return message.SerializeToString()


class Block(NamedTuple):
    """Observations of one request.

    Attributes:
        encoded: The message Observations; empty to append nothing.
        values: Number of values.
        covariates: Number of covariates.
        targets: Number of values in a time step; 0 if not given.
        times: Times of the rows, in nanoseconds since 1970; empty if not given.
        has_start: True if the time of the first row is given instead.
    """

    encoded: bytes = b""
    values: int = 0
    covariates: int = 0
    targets: int = 0
    times: Sequence[int] = ()
    has_start: bool = False


NOTHING = Block()


class Options(NamedTuple):
    """The fields of a request that say what to answer.

    Attributes:
        encoded: The fields horizon, quantile_levels, future_covariates and explain.
        numbers: Number of future covariates.
    """

    encoded: bytes = b""
    numbers: int = 0


ONLY_APPEND = Options()


class Request:
    """A ForecastRequest.

    Attributes:
        session_id: Id of the session.
        request_id: Idempotency key.
        block: Observations to append.
        options: What to answer.
        opening: Options for opening the session; None if it must exist.
        if_version: Version at which the session must be; None for any.
        last_seen: Newest version received; None to not say so.
    """

    __slots__ = ("_session", "block", "if_version", "last_seen", "opening", "options", "request_id", "session_id")
    session_id: str
    request_id: str
    block: Block
    options: Options
    opening: forecast_pb2.OpenOptions | None
    if_version: Version | None
    last_seen: Version | None

    def __init__(
        self,
        session_id: str,
        request_id: str = "",
        block: Block = NOTHING,
        options: Options = ONLY_APPEND,
        session: bytes | None = None,
        *,
        opening: forecast_pb2.OpenOptions | None = None,
        if_version: Version | None = None,
    ) -> None:
        """Create the request; `session` is the encoded field session_id, if it is known."""
        self.session_id, self.request_id, self.block, self.options = session_id, request_id, block, options
        self.opening, self.if_version = opening, if_version
        self.last_seen = None
        self._session = session_field(session_id) if session is None else session

    @property
    def numbers(self) -> int:
        """Number of values, covariates, times and future covariates."""
        return self.block.values + self.block.covariates + len(self.block.times) + self.options.numbers

    @property
    def key(self) -> Key:
        """The key of the response."""
        return self._session + _field(_RESPONSE_REQUEST_ID, self.request_id.encode())

    def SerializeToString(self, timeout_seconds: float | None = None) -> bytes:  # noqa: N802 (as an Encodable)
        """Return the encoded message; with `timeout_seconds`, it tells the server the time it has."""
        parts = [self._session, _field(_REQUEST_ID, self.request_id.encode()), self.options.encoded]
        if self.block.encoded:
            parts.append(_field(_OBSERVATIONS, self.block.encoded))
        if self.last_seen is not None:
            parts.append(_field(_LAST_SEEN, encode_version(self.last_seen)))
        if self.opening is not None:
            parts.append(_field(_OPEN, self.opening.SerializeToString()))
        if self.if_version is not None:
            parts.append(_field(_IF_VERSION, encode_version(self.if_version)))
        if timeout_seconds is not None:
            parts.append(_timeout_field(timeout_seconds))
        return b"".join(parts)


class Frame(NamedTuple):
    """A ForecastManyRequest or ForecastStreamRequest of encoded requests.

    Attributes:
        requests: The requests.
        session_ids: The session of each; empty on a stream.
    """

    requests: Sequence[bytes]
    session_ids: Sequence[str] = ()

    def SerializeToString(self) -> bytes:  # noqa: N802 (as an Encodable)
        """Return the encoded message."""
        return b"".join([_REQUESTS + varint(len(request)) + request for request in self.requests])

    def part(self, positions: Sequence[int]) -> "Frame":
        """Return a frame of the requests at these positions."""
        return Frame([self.requests[at] for at in positions], [self.session_ids[at] for at in positions])


def one_value(value: float) -> Block:
    """Return the block of one value."""
    return Block(_ONE_VALUE + _FLOAT64(value), 1)


def to_block(message: forecast_pb2.Observations, times: Sequence[int] = ()) -> Block:
    """Return the block of a message with these times."""
    has_start = message.HasField("start_time")
    count = len(message.values), len(message.covariates)
    return Block(message.SerializeToString(), *count, message.targets, times, has_start)


def session_field(session_id: str) -> bytes:
    """Return the encoded field session_id."""
    return _field(_SESSION_ID, session_id.encode())


def response_key(session_id: str, request_id: str) -> Key:
    """Return the key of a response with these ids."""
    return session_field(session_id) + _field(_RESPONSE_REQUEST_ID, request_id.encode())


def encode_version(version: Version) -> bytes:
    """Return the message Version."""
    return _STEP + varint(version.step) + _VERSION_TAG + _FIXED64(version.tag)


@lru_cache(maxsize=16)
def _timeout_field(seconds: float) -> bytes:
    whole = int(seconds)
    return _field(_TIMEOUT, _SECONDS + varint(whole) + _NANOS + varint(int((seconds - whole) * 1e9)))


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content


def varint(number: int) -> bytes:
    """Return the encoded number."""
    if number < 0x4000:
        return _SMALL[number]
    return bytes([number & 0x7F | 0x80]) + varint(number >> 7)
