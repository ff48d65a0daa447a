"""A request's cost, before and after decoding."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from support.wire import observations

from statecast.service.access.principal import ANYBODY
from statecast.service.errors import InvalidRequest
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
