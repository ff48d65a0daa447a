"""Earlier findings of the fuzzer, one test each."""

from collections import Counter
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from fuzz.place import SECONDS, Place
from fuzz.rpcs import RPCS, Caller
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

STREAMS = 30
BURST = 3000


@pytest.mark.parametrize("token", ["0" * 21 + "9" * 21, "0" * 21 + "9" * 5000], ids=["huge", "longer than int takes"])
def test_a_page_token_that_begins_with_zeros(fuzzed: Place, token: str) -> None:
    request = pb.ListSessionsRequest(page_token=token).SerializeToString()
    answer = Caller(fuzzed.channel).call(RPCS["ListSessions"], (request,))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert not fuzzed.trouble()


def test_a_bad_frame_right_behind_a_good_one_ends_the_stream(fuzzed: Place) -> None:
    """A status must wait until the pending write of a result is finished."""
    good = pb.ForecastStreamRequest(requests=[pb.ForecastRequest(request_id=str(at)) for at in range(64)])
    bad = pb.ForecastStreamRequest(requests=[pb.ForecastRequest()] * 4097)
    caller = Caller(fuzzed.channel)
    for _ in range(STREAMS):
        answer = caller.call(RPCS["ForecastStream"], (good.SerializeToString(), bad.SerializeToString()))
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert not fuzzed.trouble()


@pytest.mark.parametrize("model", ["tiny", "base"])
def test_quantiles_of_a_constant_do_not_cross_by_rounding(fuzzed: Place, model: str) -> None:
    request = pb.ForecastRequest(session_id=f"constant-{model}", horizon=6)
    request.open.model = model
    request.observations.values.extend([1.1] * 30)
    request.quantile_levels.extend(np.linspace(0.1, 0.9, 100))
    values = np.array(fuzzed.stub.Forecast(request).forecast.values, np.float32).reshape(6, 100)
    assert (np.diff(values, axis=1) >= 0).all()


async def test_calls_that_come_by_the_thousand_are_all_answered(fuzzed: Place) -> None:
    async with grpc.aio.insecure_channel(fuzzed.server.target) as channel:
        stub: Any = ForecastServiceStub(channel)
        calls = [stub.GetSession(pb.GetSessionRequest(session_id="nobody"), timeout=SECONDS) for _ in range(BURST)]
        codes = Counter([await call.code() for call in calls])
    assert set(codes) <= {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED}, codes
