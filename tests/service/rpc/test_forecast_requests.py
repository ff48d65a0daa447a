"""A request's cost, before and after decoding; and the usual requests, which are read otherwise."""

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from support.wire import observations

from statecast.service.access.principal import ANYBODY, Principal, Role
from statecast.service.engine.request import Request
from statecast.service.errors import InvalidRequest, ServiceError
from statecast.service.rpc import forecast_requests
from statecast.service.rpc.engine_client import Call
from statecast.service.rpc.forecast_requests import cost_of, to_request
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb

CALL = Call("a caller", None, ANYBODY)
PLAIN = pb.ForecastRequest(session_id="a", observations=observations(1, 2, 3))
COVARIATES = pb.ForecastRequest(session_id="a", observations=observations(1, 2, 3, covariates=range(300)))
FUTURE = pb.ForecastRequest(session_id="a", observations=observations(1, 2, 3), future_covariates=range(300))
EXPLAINED = pb.ForecastRequest(session_id="a", observations=observations(1, 2, 3), explain=True)
TIMES = pb.ForecastRequest(
    session_id="a",
    observations=forecast_pb2.Observations(values=[1, 2, 3], times=[Timestamp(seconds=at) for at in range(3)]),
)


@pytest.mark.parametrize(
    "message", [PLAIN, COVARIATES, FUTURE, EXPLAINED, TIMES, pb.ForecastRequest(session_id="a", horizon=5)]
)
def test_the_cost_is_known_before_the_request_is_read(message: pb.ForecastRequest) -> None:
    assert cost_of(message) == to_request(message, CALL).cost


def test_covariates_and_explanations_cost_time_and_memory() -> None:
    assert cost_of(COVARIATES) == cost_of(PLAIN) + 300
    assert cost_of(EXPLAINED) > cost_of(PLAIN)
    for message in (COVARIATES, FUTURE):
        assert to_request(message, CALL).nbytes == to_request(PLAIN, CALL).nbytes + 300 * 8
    assert to_request(EXPLAINED, CALL).nbytes > to_request(PLAIN, CALL).nbytes


def test_times_are_read_only_if_they_can_be_those_of_the_values() -> None:
    """A time takes two bytes on the wire, but much longer to decode than a value."""
    message = pb.ForecastRequest(session_id="a", observations=observations(1, 2))
    message.observations.times.extend(Timestamp() for _ in range(3))
    with pytest.raises(InvalidRequest, match="3 times are more than the 2 values") as caught:
        to_request(message, CALL)
    assert caught.value.field == "observations.times"
    message.observations.values.extend([1.0] * 100_001)
    message.observations.times.extend(Timestamp() for _ in range(100_000))
    with pytest.raises(InvalidRequest, match="more than the 100000 that one request may have"):
        to_request(message, CALL)


def test_a_time_out_of_range_is_refused_by_row() -> None:
    message = pb.ForecastRequest(session_id="a", observations=observations(1, 2))
    message.observations.times.extend([Timestamp(seconds=1), Timestamp(seconds=10**11)])
    with pytest.raises(InvalidRequest, match="1678 to 2261") as caught:
        to_request(message, CALL)
    assert caught.value.field == "observations.times[1]"


NUMBERS = st.sampled_from([0.0, -0.0, 1.5, -1e300, math.inf, math.nan, 1e15, 1e16])
STEPS = st.sampled_from([0, 1, 127, 128, 16_383, 16_384, 2**32, 2**64 - 1])
VERSIONS = st.none() | st.builds(forecast_pb2.Version, step=STEPS, tag=STEPS)
OBSERVED = st.none() | st.builds(
    forecast_pb2.Observations,
    values=st.lists(NUMBERS, max_size=2) | st.lists(NUMBERS, min_size=1, max_size=1),
    covariates=st.just([]) | st.lists(NUMBERS, max_size=1),
    targets=st.sampled_from([0, 0, 1, 300]),
    start_time=st.none() | st.just(Timestamp()) | st.just(Timestamp(seconds=5)),
    times=st.just([]) | st.just([Timestamp()]),
)
MESSAGES = st.builds(
    pb.ForecastRequest,
    session_id=st.sampled_from(["", "a", "pump 17", "ä", "a\n", "x" * 64, "x" * 65, "x" * 128, "x" * 257]),
    open=st.none() | st.just(forecast_pb2.OpenOptions()) | st.just(forecast_pb2.OpenOptions(model="tiny")),
    observations=OBSERVED,
    horizon=st.sampled_from([0, 1, 127, 128, 5000, 2**32 - 1]),
    quantile_levels=st.just([]) | st.just([0.0]) | st.just([0.5]),
    request_id=st.sampled_from(["", "b", "ä" * 32, "c" * 64, "c" * 65]),
    if_version=VERSIONS,
    last_seen=VERSIONS,
    timeout=st.none() | st.just(Duration()) | st.just(Duration(seconds=200, nanos=1)),
    future_covariates=st.just([]) | st.lists(NUMBERS, max_size=1),
    explain=st.booleans(),
)
CALLS = st.builds(
    Call,
    caller=st.just("a caller"),
    deadline=st.sampled_from([None, 1e9]),
    principal=st.sampled_from([ANYBODY, Principal("other", Role.READ, "key"), Principal("other", Role.WRITE, "key")]),
)


def _read(read: Any, message: pb.ForecastRequest, call: Call) -> object:
    """Return the fields of the request, with arrays as bytes; or its error."""
    try:
        request = read(message, call)
    except ServiceError as error:
        return type(error), error.message
    values = [getattr(request, each.name) for each in fields(Request)]
    return [each.tobytes() if isinstance(each, np.ndarray) else each for each in values]


@settings(max_examples=1000)
@given(message=MESSAGES, call=CALLS)
def test_usual_requests_are_read_like_any(message: pb.ForecastRequest, call: Call) -> None:
    times = iter([100.0] * 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.monotonic", lambda: next(times, 100.0))
        assert _read(to_request, message, call) == _read(forecast_requests._any, message, call)


@pytest.mark.parametrize(
    "message",
    [
        pb.ForecastRequest(session_id="a", observations=observations(-0.0)),
        pb.ForecastRequest(session_id="a", observations=observations(1), horizon=24, request_id="b"),
        pb.ForecastRequest(
            session_id="a", observations=observations(1), horizon=300, request_id="b",
            last_seen=forecast_pb2.Version(step=2**40, tag=2**63), open=forecast_pb2.OpenOptions(model="tiny"),
            timeout=Duration(seconds=60),
        ),
    ],
)  # fmt: skip
def test_which_are_usual(message: pb.ForecastRequest) -> None:
    assert forecast_requests._usual(message, CALL) is not None
    message.explain = True
    assert forecast_requests._usual(message, CALL) is None
