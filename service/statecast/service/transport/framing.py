"""gRPC's framing of messages and values of its headers: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md."""

import re
import zlib
from urllib.parse import quote

import grpc
from google.rpc import status_pb2

PREFIX_BYTES = 5
"""A flag for compression, and the length of the message as four bytes."""
GZIP = zlib.MAX_WBITS | 16
FEW_BYTES, MOST_INFLATED = 4 * 1024 * 1024, 100
"""A message may inflate to so many bytes in any case, and else to so many times its size."""
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class FramingError(Exception):
    """The caller broke the protocol; `status` is the answer."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = make_status(code, message)


class Messages:
    """The messages in the chunks of a request's body.

    Args:
        encoding: The header grpc-encoding; empty if absent.
        max_bytes: The largest accepted message, before and after decompression.

    Raises:
        FramingError: if the encoding is not supported.
    """

    def __init__(self, encoding: bytes, max_bytes: int) -> None:
        if encoding not in (b"", b"identity", b"gzip"):
            name = encoding[:20].decode("ascii", "replace")
            raise FramingError(
                grpc.StatusCode.UNIMPLEMENTED, f"grpc-encoding {name!r} is not supported; use identity or gzip"
            )
        self._is_gzip = encoding == b"gzip"
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    @property
    def nbytes(self) -> int:
        """Size of what has arrived and is not taken out yet."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> None:
        """Add the next chunk."""
        self._buffer += chunk

    def only(self, body: bytes) -> bytes | None:
        """Return the uncompressed message that is a whole body, without a copy; None if it is anything else."""
        length = int.from_bytes(body[1:PREFIX_BYTES], "big")
        is_plain = len(body) == PREFIX_BYTES + length and body[0] == 0 and length <= self._max_bytes
        return body[PREFIX_BYTES:] if is_plain else None

    def next(self) -> bytes | None:
        """Return the next message, or None if it is not complete yet.

        Raises:
            FramingError: if it is malformed or too large; its prefix is enough to tell.
        """
        buffer = self._buffer
        if len(buffer) < PREFIX_BYTES:
            return None
        flag, length = buffer[0], int.from_bytes(buffer[1:PREFIX_BYTES], "big")
        if flag > 1:
            raise FramingError(grpc.StatusCode.INTERNAL, f"a message begins with {flag}, not 0 or 1: it is not framed")
        if length > self._max_bytes:
            raise self._too_large(length)
        end = PREFIX_BYTES + length
        if len(buffer) < end:
            return None
        message = bytes(memoryview(buffer)[PREFIX_BYTES:end])
        del buffer[:end]
        return self._inflated(message) if flag else message

    def check_end(self) -> None:
        """Check that nothing follows the last message.

        Raises:
            FramingError: if part of another message does.
        """
        if self._buffer:
            raise FramingError(
                grpc.StatusCode.INTERNAL, f"the body ends within a message, or has too many: {len(self._buffer)} bytes"
            )

    def _inflated(self, message: bytes) -> bytes:
        if not self._is_gzip:
            raise FramingError(grpc.StatusCode.INTERNAL, "a message is compressed, but grpc-encoding names no encoding")
        inflater = zlib.decompressobj(GZIP)
        try:
            inflated = inflater.decompress(message, self._max_bytes + 1)
        except zlib.error as error:
            raise FramingError(grpc.StatusCode.INTERNAL, f"a message is not valid gzip: {error}") from error
        if len(inflated) > self._max_bytes:
            raise self._too_large(len(inflated))
        if len(inflated) > max(FEW_BYTES, MOST_INFLATED * len(message)):
            raise FramingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"a message of {len(message)} bytes inflates to {len(inflated)}, more than {MOST_INFLATED} times; send "
                "it uncompressed",
            )
        if not inflater.eof:
            raise FramingError(grpc.StatusCode.INTERNAL, "a message is not valid gzip: it is cut off")
        return inflated

    def _too_large(self, length: int) -> FramingError:
        return FramingError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"a message of {length} bytes or more is larger than the {self._max_bytes} that --max-message-mib allows",
        )


def framed(message: bytes) -> bytes:
    """Return an uncompressed message with its prefix."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def timeout_seconds(header: bytes) -> float:
    """Return the value of grpc-timeout.

    Raises:
        FramingError: if it is not one.
    """
    match = _TIMEOUT.fullmatch(header)
    if match is None:
        text = header[:20].decode("ascii", "replace")
        raise FramingError(
            grpc.StatusCode.INTERNAL, f"grpc-timeout {text!r} is not a number of at most 8 digits and a unit"
        )
    return int(match[1]) * _SECONDS[match[2]]


def percent_encoded(message: str) -> bytes:
    """Return a grpc-message: UTF-8, with all but printable ASCII percent-encoded."""
    return quote(message, safe=_PRINTABLE).encode()


def make_status(code: grpc.StatusCode, message: str) -> status_pb2.Status:
    """Return a status without details."""
    return status_pb2.Status(code=code.value[0], message=message)
