"""Requests are the messages that the generated code would make of them."""

from hypothesis import given
from hypothesis import strategies as st

from statecast.client import Version, _messages
from statecast.client._ask import Ask
from statecast.client._request import (
    NOTHING,
    Frame,
    Request,
    encode_version,
    one_value,
    response_key,
    session_field,
    to_block,
)
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb

NUMBERS = st.floats(-1e30, 1e30)
VERSIONS = st.builds(Version, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
BLOCKS = st.builds(
    forecast_pb2.Observations,
    values=st.lists(NUMBERS, min_size=1, max_size=40),
    targets=st.integers(0, 3),
    covariates=st.lists(NUMBERS, max_size=3),
)
ASKS = st.builds(
    Ask,
    horizon=st.integers(0, 2**32 - 1),
    quantile_levels=st.lists(st.floats(0, 1), max_size=20).map(tuple),
    explain=st.booleans(),
    request_id=st.none(),
    if_version=st.none(),
)


def message_of(version: Version | None) -> forecast_pb2.Version | None:
    return None if version is None else forecast_pb2.Version(step=version.step, tag=version.tag)


@given(
    session_id=st.text(max_size=300),
    request_id=st.text(max_size=200),
    observed=st.none() | BLOCKS,
    ask=ASKS,
    model=st.none() | st.text(max_size=20),
    if_version=st.none() | VERSIONS,
    last_seen=st.none() | VERSIONS,
    milliseconds=st.none() | st.integers(1, 10**9),
)
def test_it_is_the_message(
    session_id: str,
    request_id: str,
    observed: forecast_pb2.Observations | None,
    ask: Ask,
    model: str | None,
    if_version: Version | None,
    last_seen: Version | None,
    milliseconds: int | None,
) -> None:
    block = NOTHING if observed is None else to_block(observed)
    opening = None if model is None else forecast_pb2.OpenOptions(model=model)
    made = Request(session_id, request_id, block, _messages.options(ask), opening=opening, if_version=if_version)
    made.last_seen = last_seen
    expected = pb.ForecastRequest(
        session_id=session_id,
        open=opening,
        observations=observed,
        horizon=ask.horizon,
        quantile_levels=ask.quantile_levels,
        request_id=request_id,
        if_version=message_of(if_version),
        last_seen=message_of(last_seen),
        explain=ask.explain,
    )
    if milliseconds is not None:
        expected.timeout.FromMilliseconds(milliseconds)
    encoded = made.SerializeToString(None if milliseconds is None else milliseconds / 1000)
    found = pb.ForecastRequest.FromString(encoded)
    if milliseconds is not None:
        assert abs(found.timeout.ToNanoseconds() - expected.timeout.ToNanoseconds()) < 1000
        found.timeout.CopyFrom(expected.timeout)
    assert found == expected


@given(NUMBERS | st.just(float("nan")))
def test_one_value_is_a_block_of_one(value: float) -> None:
    assert one_value(value) == to_block(forecast_pb2.Observations(values=[value]))


@given(st.lists(st.text(max_size=200), max_size=5))
def test_a_frame_holds_its_requests(names: list[str]) -> None:
    frame = Frame([Request(name, "r").SerializeToString() for name in names]).SerializeToString()
    assert [each.session_id for each in pb.ForecastManyRequest.FromString(frame).requests] == names
    assert [each.session_id for each in pb.ForecastStreamRequest.FromString(frame).requests] == names


@given(st.text(max_size=300), st.text(max_size=300))
def test_its_key_is_that_of_the_response(session_id: str, request_id: str) -> None:
    request = Request(session_id, request_id)
    assert request.key == Request(session_id, request_id, session=session_field(session_id)).key
    assert request.key == response_key(session_id, request_id)
    response = pb.ForecastResponse.FromString(request.key)
    assert (response.session_id, response.request_id) == (session_id, request_id)


@given(VERSIONS)
def test_a_version_is_its_message(version: Version) -> None:
    assert forecast_pb2.Version.FromString(encode_version(version)) == message_of(version)
