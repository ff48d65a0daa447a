from collections.abc import Iterator

import grpc
import pytest
from support.servers import ServerThread

from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub


@pytest.fixture(scope="module")
def channel(server: ServerThread) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.target, options) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> ForecastServiceStub:
    return ForecastServiceStub(channel)
