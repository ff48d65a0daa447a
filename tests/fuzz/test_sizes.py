"""Messages and metadata that are too large, before or after decompression."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.redis_process import RedisProcess
from support.wire import OPEN, failure, observations

from fuzz.place import MIB, SECONDS, Bystanders, Place, place
from fuzz.rpcs import RPCS, Caller
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

TOO_LARGE = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
"""Codes for metadata that are too large: of grpcio, of a connection that is cut off, and of Envoy."""
LIMIT_MIB = 2
BOMB_MIB = 128
SENDS_ANYTHING = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 64 * MIB)]
FORECAST = RPCS["Forecast"].path
GZIP = grpc.Compression.Gzip


@pytest.fixture(scope="module")
def narrow(any_redis: RedisProcess, models_folder: Path) -> Iterator[Place]:
    options = ("--namespace", "narrow", "--max-message-mib", str(LIMIT_MIB))
    with place(any_redis.url, models_folder, *options) as found:
        yield found


@pytest.fixture
def channel(narrow: Place) -> Iterator[grpc.Channel]:
    """Open a channel without limits of the client; the server must be unaffected afterwards."""
    bystanders = Bystanders(narrow.stub, "sizes")
    with grpc.insecure_channel(narrow.server.target, SENDS_ANYTHING) as channel:
        yield channel
    assert not bystanders.wrong()
    assert not narrow.trouble()


def forecast(channel: grpc.Channel, path: str = FORECAST) -> Any:
    """Return a callable that sends raw bytes to the method."""
    return channel.unary_unary(path)


def padded(nbytes: int) -> bytes:
    """Return a request of this many bytes, with an unknown field."""
    filling = nbytes - len(pb.ForecastRequest(session_id="x").SerializeToString()) - 6
    # Field 100 is a text; its length always takes four bytes.
    length = bytes([filling & 0x7F | 0x80, filling >> 7 & 0x7F | 0x80, filling >> 14 & 0x7F | 0x80, filling >> 21])
    return pb.ForecastRequest(session_id="x").SerializeToString() + b"\xa2\x06" + length + bytes(filling)


@pytest.mark.parametrize("compression", [None, GZIP], ids=["plain", "gzip"])
def test_the_largest_message_is_taken_and_one_byte_more_is_not(channel: grpc.Channel, compression: Any) -> None:
    method = forecast(channel)
    largest = padded(LIMIT_MIB * MIB)
    assert len(largest) == LIMIT_MIB * MIB
    code, _ = failure(lambda: method(largest, compression=compression, timeout=SECONDS))
    assert code is grpc.StatusCode.NOT_FOUND
    code, _ = failure(lambda: method(largest + b"\0", compression=compression, timeout=SECONDS))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("name", RPCS)
@pytest.mark.parametrize("compression", [None, GZIP], ids=["plain", "gzip"])
def test_what_is_far_too_large_is_refused_without_room_for_it(
    narrow: Place, channel: grpc.Channel, name: str, compression: Any
) -> None:
    rpc = RPCS[name]
    bomb = bytes(BOMB_MIB * MIB if name == "Forecast" else 8 * LIMIT_MIB * MIB)
    narrow.forget_peak()
    before = narrow.rss()
    method: Any = (channel.stream_stream if rpc.answers_many else channel.unary_unary)(rpc.path)

    def call() -> None:
        answer = method(iter([bomb]) if rpc.answers_many else bomb, compression=compression, timeout=SECONDS)
        list(answer if rpc.answers_many else [])

    code, _ = failure(call)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert narrow.peak() - before < 4 * LIMIT_MIB * MIB


def test_honest_messages_may_be_compressed(channel: grpc.Channel, session_id: str) -> None:
    stub: Any = ForecastServiceStub(channel)
    plain = stub.Forecast(pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(*range(99))))
    request = pb.ForecastRequest(session_id=session_id + "z", open=OPEN, observations=observations(*range(99)))
    assert stub.Forecast(request, compression=GZIP).version == plain.version
    asked = pb.ForecastRequest(session_id=session_id, horizon=3)
    (frame,) = stub.ForecastStream(iter([pb.ForecastStreamRequest(requests=[asked])]), compression=GZIP)
    assert frame.results[0].response.forecast == stub.Forecast(asked, compression=GZIP).forecast


def test_a_message_that_is_not_what_its_compression_says(narrow: Place, channel: grpc.Channel) -> None:
    method = forecast(channel)
    # The metadata announce compression, but the frame's flag decides: its bytes are uncompressed.
    code, _ = failure(lambda: method(padded(1000), metadata=[("grpc-encoding", "gzip")], timeout=SECONDS))
    assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("kib", [1, 7])
def test_metadata_that_is_large_but_allowed_does_not_matter(channel: grpc.Channel, kib: int) -> None:
    metadata = [("x-large", "a" * kib * 1024), ("x-large-bin", bytes(100))]
    code, _ = failure(lambda: forecast(channel)(padded(1000), metadata=metadata, timeout=SECONDS))
    assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("kib", [64, 1024, 16 * 1024])
def test_huge_metadata_is_refused_without_room_for_it(narrow: Place, channel: grpc.Channel, kib: int) -> None:
    narrow.forget_peak()
    before = narrow.rss()
    metadata = [("x-huge", "a" * kib * 1024)]
    code, _ = failure(lambda: forecast(channel)(padded(1000), metadata=metadata, timeout=SECONDS))
    assert code in TOO_LARGE
    assert narrow.peak() - before < 16 * MIB


def test_very_many_metadata_are_refused(narrow: Place, channel: grpc.Channel) -> None:
    metadata = [(f"x-{number}", "a") for number in range(20_000)]
    code, _ = failure(lambda: forecast(channel)(padded(1000), metadata=metadata, timeout=SECONDS))
    assert code in TOO_LARGE


@pytest.mark.parametrize("path", ["", "/", "/x", "//", "/statecast.v1.ForecastService/Nothing", "/" + "x" * 4000])
def test_methods_that_are_not_there(channel: grpc.Channel, path: str) -> None:
    code, _ = failure(lambda: forecast(channel, path)(b"", timeout=SECONDS))
    # Without a path, the request is not even HTTP, and its connection ends.
    assert code is (grpc.StatusCode.UNIMPLEMENTED if path else grpc.StatusCode.UNAVAILABLE)


def test_errors_about_the_longest_names_fit_into_the_trailer(narrow: Place) -> None:
    """A status message is sent twice, once with three bytes for each non-ASCII byte."""
    session_id, name = "\U0001f300" * 256, "\U0001f300" * 256
    narrow.stub.OpenSession(pb.OpenSessionRequest(session_id=session_id, options=OPEN))
    options = forecast_pb2.OpenOptions(model=name, model_version=name)
    for frame, wanted in (
        (pb.ForecastRequest(session_id=session_id, open=options), grpc.StatusCode.FAILED_PRECONDITION),
        (pb.ForecastRequest(session_id=session_id + "x"), grpc.StatusCode.INVALID_ARGUMENT),
        (pb.ForecastRequest(session_id="x" * 200, open=options), grpc.StatusCode.NOT_FOUND),
    ):
        for _ in range(20):  # between its two limits, a client refuses trailers at random
            answer = Caller(narrow.channel).call(RPCS["Forecast"], (frame.SerializeToString(),))
            assert (answer.code, answer.details is not None) == (wanted, True), answer.message[:200]
