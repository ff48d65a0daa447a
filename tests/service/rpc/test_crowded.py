"""Messages with too many parts are told before they are decoded."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from statecast.service.errors import InvalidRequest
from statecast.service.rpc import crowded
from statecast.service.rpc.crowded import LARGE_BYTES, has_more_fields, nested_in
from statecast.service.rpc.fields import MAX_TIMES
from statecast.service.rpc.methods import decoder, undecodable
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb

EMPTY = b"\x0a\x00"
"""An empty request of a frame."""
TIME, CATEGORY = b"\x2a\x00", b"\x22\x00"
"""An empty time of observations, and an empty category of options."""
FILLER = pb.ForecastManyRequest(requests=[pb.ForecastRequest(session_id="s" * LARGE_BYTES)]).SerializeToString()


def tagged(number: int, content: bytes) -> bytes:
    """Return a field of bytes, as it is on the wire."""
    length, rest = b"", len(content)
    while rest > 0x7F:
        length += bytes([rest & 0x7F | 0x80])
        rest >>= 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + content


@pytest.mark.parametrize(("count", "expected"), [(9, False), (10, True), (100_000, True)])
def test_fields_are_counted(count: int, expected: bool) -> None:
    assert has_more_fields(FILLER + EMPTY * count, 10) is expected


def test_all_kinds_of_fields_are_passed_over() -> None:
    others = b"\x10\xff\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    assert not has_more_fields(FILLER + others, 4)
    assert has_more_fields(FILLER + others, 3)


@pytest.mark.parametrize("broken", [FILLER + b"\x0a", FILLER + b"\xff" * 3, FILLER + b"\x0f", FILLER[:-1]])
def test_a_broken_message_is_left_to_the_decoder(broken: bytes) -> None:
    assert not has_more_fields(broken, 1)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "at", [b"", FILLER, FILLER + b"\x10", FILLER + b"\x0a"], ids=["all", "tag", "number", "length"]
)
def test_a_number_without_end_is_given_up_soon(at: bytes) -> None:
    """Its digits would take hours to add up."""
    assert not has_more_fields(at + b"\xff" * 16 * 2**20, 2)


@pytest.mark.parametrize(
    "group",
    [b"\x13\x14", b"\x13" + tagged(3, b"\xff" * 20) + b"\x14", b"\x13" + tagged(3, b"\x07") + b"\x14"],
    ids=["empty", "with a number without end", "with a field of no kind"],
)
def test_what_follows_a_group_counts_too(group: bytes) -> None:
    """The decoder passes over groups, whatever their parts hold."""
    message = FILLER + group + EMPTY * 10
    assert len(pb.ForecastManyRequest.FromString(message).requests) == 11
    assert has_more_fields(message, 10)
    request = pb.ForecastRequest(session_id="s" * LARGE_BYTES).SerializeToString() + group + tagged(3, TIME * 10)
    assert len(pb.ForecastRequest.FromString(request).observations.times) == 10
    assert has_more_fields(request, 10, nested_in(pb.ForecastRequest.DESCRIPTOR))


@pytest.mark.parametrize(
    ("kind", "request_of"),
    [
        (pb.ForecastRequest, lambda count: tagged(3, TIME * count)),
        (pb.ForecastRequest, lambda count: tagged(3, TIME * (count // 2)) * 2),
        (pb.ForecastRequest, lambda count: tagged(2, CATEGORY * count)),
        (pb.ForecastManyRequest, lambda count: tagged(1, tagged(3, TIME * (count // 4))) * 4),
        (pb.ForecastStreamRequest, lambda count: tagged(1, tagged(3, TIME * count))),
        (pb.OpenSessionRequest, lambda count: tagged(2, CATEGORY * count)),
    ],
    ids=["times", "in two parts", "categories", "frame", "stream", "open"],
)
def test_a_message_of_millions_of_empty_times_is_not_decoded(
    kind: type[Message], request_of: Callable[[int], bytes]
) -> None:
    decoded: list[bytes] = []

    def decode(data: bytes) -> Message:
        decoded.append(data)
        return kind.FromString(data)

    many, few = request_of(8 * 2**20 - 100), request_of(200_000)
    decode_some = decoder(decode)
    decoded.clear()
    with pytest.raises(InvalidRequest, match="has more than 250000 times or other small parts; send fewer at once"):
        raise undecodable(decode_some(many))
    assert not decoded
    assert isinstance(decode_some(few), kind)


def grouped(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 3]) + content + bytes([number << 3 | 4])


NUMBERS = st.integers(1, 15)
PIECES = st.recursive(
    st.sampled_from([TIME, CATEGORY, EMPTY])
    | st.builds(lambda number, value: bytes([number << 3]) + value, NUMBERS, st.sampled_from([b"\x00", b"\xff\x7f"]))
    | st.builds(lambda number: bytes([number << 3 | 1]) + bytes(8), NUMBERS)
    | st.builds(lambda number: bytes([number << 3 | 5]) + bytes(4), NUMBERS)
    | st.builds(tagged, NUMBERS, st.binary(max_size=12)),
    lambda inner: (
        st.builds(tagged, st.sampled_from([1, 2, 3]), st.lists(inner, max_size=6).map(b"".join))
        | st.builds(grouped, NUMBERS, st.lists(inner, max_size=3).map(b"".join))
    ),
    max_leaves=30,
)
"""Fields, parts and groups of a message, most of which a decoder takes."""


@settings(max_examples=500)
@given(st.lists(PIECES | st.binary(max_size=3), max_size=8).map(b"".join))
def test_no_time_that_is_decoded_escapes_the_count(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(crowded, "LARGE_BYTES", -1)
        with suppress(DecodeError):
            frame = pb.ForecastManyRequest.FromString(data)
            times = sum(len(request.observations.times) for request in frame.requests)
            assert has_more_fields(data, len(frame.requests) - 1)
            assert has_more_fields(data, times - 1, nested_in(frame.DESCRIPTOR))


def test_values_are_not_parts() -> None:
    request = pb.ForecastRequest(observations=forecast_pb2.Observations(values=[1.0] * 1_000_000))
    assert decoder(pb.ForecastRequest.FromString)(request.SerializeToString()) == request


def test_a_request_with_the_most_times_is_decoded() -> None:
    times = [Timestamp(seconds=row, nanos=1) for row in range(MAX_TIMES)]
    request = pb.ForecastRequest(observations=forecast_pb2.Observations(values=[1.0] * MAX_TIMES, times=times))
    assert decoder(pb.ForecastRequest.FromString)(request.SerializeToString()) == request


def test_a_small_message_is_not_looked_at() -> None:
    assert not has_more_fields(EMPTY * 100, 1)


def test_the_error_names_the_limit() -> None:
    decode = decoder(pb.ForecastManyRequest.FromString, 5)
    with pytest.raises(InvalidRequest, match="has more than 5 requests; send them in several frames"):
        raise undecodable(decode(FILLER + EMPTY * 5))
    assert len(decode(FILLER + EMPTY * 4).requests) == 5
