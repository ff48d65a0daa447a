from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.service.settings import Settings
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub


@pytest.fixture(scope="session", params=[0, 2], ids=["alone", "with workers"])
def server(request: pytest.FixtureRequest, any_redis: RedisProcess, models_folder: Path) -> Iterator[ServerThread]:
    """The wire format is the same with and without gRPC workers."""
    settings = Settings(redis_url=any_redis.url, models=models_folder, namespace="shared", workers=request.param)
    thread = ServerThread(settings)
    yield thread
    thread.stop()


@pytest.fixture(scope="module")
def channel(server: ServerThread) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.target, options) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> ForecastServiceStub:
    return ForecastServiceStub(channel)
