"""A failed call leaves few reference cycles, since garbage collection is rare."""

import gc
from collections.abc import Iterator
from types import FrameType

import pytest
from support.wire import OPEN, failure, observations

from statecast.service.engine.request import Request
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

CALLS = 20


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """Collect the objects that only a garbage collection would free."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


WRONG = {
    "refused by the engine": pb.ForecastRequest(session_id="none-of-that-name", observations=observations(1.0)),
    "refused by the model": pb.ForecastRequest(session_id="a", horizon=1_000_000, open=OPEN),
    "refused at once": pb.ForecastRequest(observations=observations(1.0), open=OPEN),
}


@pytest.mark.parametrize("request_", WRONG.values(), ids=WRONG)
def test_no_request_is_kept_by_a_cycle(
    stub: ForecastServiceStub, garbage: list[object], request_: pb.ForecastRequest
) -> None:
    for _ in range(CALLS):
        failure(lambda: stub.Forecast(request_))
        result = stub.ForecastMany(pb.ForecastManyRequest(requests=[request_])).results[0]
        assert result.HasField("status")
    gc.collect()
    frames = [
        each for each in garbage if isinstance(each, FrameType) and "statecast/service" in each.f_code.co_filename
    ]
    holding = [
        frame.f_code.co_qualname
        for frame in frames
        if any(isinstance(value, pb.ForecastRequest | Request) for value in frame.f_locals.values())
    ]
    assert not holding
    assert not [each for each in garbage if isinstance(each, Request)]
