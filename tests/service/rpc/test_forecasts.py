"""What a request costs, before and after it is read."""

import pytest
from support.wire import observations

from statecast.service.rpc.forecasts import cost_of, to_request
from statecast.v1 import forecast_service_pb2 as pb

PLAIN = pb.ForecastRequest(session_id="a", observations=observations(1, 2, 3))
COVARIATES = pb.ForecastRequest(session_id="a", observations=observations(1, 2, 3, covariates=range(300)))
FUTURE = pb.ForecastRequest(session_id="a", observations=observations(1, 2, 3), future_covariates=range(300))
EXPLAINED = pb.ForecastRequest(session_id="a", observations=observations(1, 2, 3), explain=True)


@pytest.mark.parametrize(
    "message", [PLAIN, COVARIATES, FUTURE, EXPLAINED, pb.ForecastRequest(session_id="a", horizon=5)]
)
def test_the_cost_is_known_before_the_request_is_read(message: pb.ForecastRequest) -> None:
    assert cost_of(message) == to_request(message).cost


def test_covariates_and_explanations_cost_time_and_memory() -> None:
    assert cost_of(COVARIATES) == cost_of(PLAIN) + 300
    assert cost_of(EXPLAINED) > cost_of(PLAIN)
    for message in (COVARIATES, FUTURE):
        assert to_request(message).nbytes == to_request(PLAIN).nbytes + 300 * 8
    assert to_request(EXPLAINED).nbytes > to_request(PLAIN).nbytes
