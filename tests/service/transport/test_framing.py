"""gRPC's framing: messages come out of any chunks, and what breaks the protocol is refused with a code."""

import gzip
from itertools import pairwise

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.service.rpc.status import STATUS_CODES
from statecast.service.transport.framing import FramingError, Messages, framed, percent_encoded, timeout_seconds

MOST = 1000


def code_of(error: FramingError) -> grpc.StatusCode:
    return STATUS_CODES[error.status.code]


def compressed(message: bytes) -> bytes:
    body = gzip.compress(message, mtime=0)
    return b"\1" + len(body).to_bytes(4, "big") + body


@given(
    messages=st.lists(st.tuples(st.binary(max_size=50), st.booleans()), max_size=5), cuts=st.sets(st.integers(0, 300))
)
def test_messages_come_out_of_any_chunks(messages: list[tuple[bytes, bool]], cuts: set[int]) -> None:
    body = b"".join(compressed(each) if is_gzip else framed(each) for each, is_gzip in messages)
    reader, found = Messages(b"gzip", MOST), []
    bounds = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    for begin, end in pairwise(bounds):
        reader.feed(body[begin:end])
        while (message := reader.next()) is not None:
            found.append(message)
    reader.check_end()
    assert found == [each for each, _ in messages]


@pytest.mark.parametrize(
    ("encoding", "body", "code"),
    [
        (b"", b"\2\0\0\0\1x", grpc.StatusCode.INTERNAL),
        (b"", b"POST / HTTP/1.1", grpc.StatusCode.INTERNAL),
        (b"", b"\0" + (MOST + 1).to_bytes(4, "big"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"", b"\0\xff\xff\xff\xff", grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"gzip", compressed(b"\0" * (MOST + 1)), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"gzip", compressed(b"\0" * 10**7), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"", compressed(b"x"), grpc.StatusCode.INTERNAL),
        (b"identity", compressed(b"x"), grpc.StatusCode.INTERNAL),
        (b"gzip", b"\1\0\0\0\4abcd", grpc.StatusCode.INTERNAL),
        (b"gzip", b"\1" + (10).to_bytes(4, "big") + gzip.compress(b"x" * 99, mtime=0)[:10], grpc.StatusCode.INTERNAL),
    ],
)
def test_what_breaks_the_protocol_is_refused(encoding: bytes, body: bytes, code: grpc.StatusCode) -> None:
    reader = Messages(encoding, MOST)
    reader.feed(body)
    with pytest.raises(FramingError) as caught:
        reader.next()
    assert code_of(caught.value) is code


def test_the_largest_message_is_taken() -> None:
    for body in (framed(b"x" * MOST), compressed(b"x" * MOST)):
        reader = Messages(b"gzip", MOST)
        reader.feed(body)
        assert reader.next() == b"x" * MOST


def test_an_end_within_a_message_is_refused() -> None:
    reader = Messages(b"", MOST)
    reader.feed(framed(b"abc")[:-1])
    assert reader.next() is None
    with pytest.raises(FramingError, match="ends within a message"):
        reader.check_end()


def test_another_encoding_is_not_implemented() -> None:
    with pytest.raises(FramingError, match="'zstd' is not supported; use identity or gzip") as caught:
        Messages(b"zstd", MOST)
    assert code_of(caught.value) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (framed(b"abc"), b"abc"),
        (framed(b""), b""),
        (b"", None),
        (b"\0\0", None),
        (framed(b"abc")[:-1], None),
        (framed(b"abc") * 2, None),
        (compressed(b"abc"), None),
        (framed(b"x" * (MOST + 1)), None),
    ],
)
def test_a_body_that_is_one_message_needs_no_buffer(body: bytes, message: bytes | None) -> None:
    assert Messages(b"gzip", MOST).only(body) == message


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(b"1S", 1.0), (b"100m", 0.1), (b"99999999H", 99999999 * 3600.0), (b"5u", 5e-6), (b"0n", 0.0)],
)
def test_a_timeout_has_a_unit(header: bytes, seconds: float) -> None:
    assert timeout_seconds(header) == pytest.approx(seconds)


@pytest.mark.parametrize("header", [b"", b"1", b"S", b"-1S", b"1.5S", b"123456789S", b"1s", b"1S ", b"\xff"])
def test_other_timeouts_are_refused(header: bytes) -> None:
    with pytest.raises(FramingError):
        timeout_seconds(header)


def test_messages_of_errors_are_ascii() -> None:
    assert percent_encoded("no session 'böiler'\n100 %") == b"no session 'b%C3%B6iler'%0A100 %25"


@pytest.mark.parametrize(("size", "is_taken"), [(4 * 2**20, True), (4 * 2**20 + 1, False)])
def test_a_small_message_does_not_inflate_to_a_large_one(size: int, is_taken: bool) -> None:
    message = gzip.compress(bytes(size))
    messages = Messages(b"gzip", 16 * 2**20)
    messages.feed(b"\1" + len(message).to_bytes(4, "big") + message)
    if is_taken:
        assert messages.next() == bytes(size)
        return
    with pytest.raises(FramingError, match="inflates to 4194305, more than 100 times; send it uncompressed") as caught:
        messages.next()
    assert caught.value.status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
