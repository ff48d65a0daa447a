from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread

from statecast.service.settings import Settings
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

TENSOR_NAMES = """
[tiny]
INPUT = "values"
OUTPUT = "forecast"
"""


@pytest.fixture(scope="session", params=["grpc", "envoy"])
def server(
    request: pytest.FixtureRequest,
    any_redis: RedisProcess,
    models_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerThread | ServerProcess]:
    """The wire format is the same over both transports."""
    names = tmp_path_factory.mktemp("names") / "tensors.toml"
    names.write_text(TENSOR_NAMES)
    server: ServerThread | ServerProcess
    if request.param == "grpc":
        settings = Settings(redis_url=any_redis.url, models=models_folder, namespace="shared", tensor_names=names)
        server = ServerThread(settings)
    else:
        arguments = ("--redis-url", any_redis.url, "--models", str(models_folder), "--namespace", "shared")
        server = ServerProcess("--transport", "envoy", *arguments, "--tensor-names", str(names))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def channel(server: ServerThread | ServerProcess) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.target, options) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> ForecastServiceStub:
    return ForecastServiceStub(channel)
