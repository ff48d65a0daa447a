"""Messages with too many parts are told before they are decoded."""

import pytest

from statecast.service.errors import InvalidRequest
from statecast.service.rpc.crowded import LARGE_BYTES, has_more_fields
from statecast.service.rpc.methods import decoder, undecodable
from statecast.v1 import forecast_service_pb2 as pb

EMPTY = b"\x0a\x00"
"""An empty request of a frame."""
FILLER = pb.ForecastManyRequest(requests=[pb.ForecastRequest(session_id="s" * LARGE_BYTES)]).SerializeToString()


@pytest.mark.parametrize(("count", "expected"), [(9, False), (10, True), (100_000, True)])
def test_fields_are_counted(count: int, expected: bool) -> None:
    assert has_more_fields(FILLER + EMPTY * count, 10) is expected


def test_all_kinds_of_fields_are_passed_over() -> None:
    others = b"\x10\xff\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    assert not has_more_fields(FILLER + others, 4)
    assert has_more_fields(FILLER + others, 3)


@pytest.mark.parametrize("broken", [FILLER + b"\x0a", FILLER + b"\xff" * 3, FILLER + b"\x0b", FILLER[:-1]])
def test_a_broken_message_is_left_to_the_decoder(broken: bytes) -> None:
    assert not has_more_fields(broken, 1)


def test_a_small_message_is_not_looked_at() -> None:
    assert not has_more_fields(EMPTY * 100, 1)


def test_the_error_names_the_limit() -> None:
    decode = decoder(pb.ForecastManyRequest.FromString, 5)
    with pytest.raises(InvalidRequest, match="has more than 5 requests; send them in several frames"):
        raise undecodable(decode(FILLER + EMPTY * 5))
    assert len(decode(FILLER + EMPTY * 4).requests) == 5
