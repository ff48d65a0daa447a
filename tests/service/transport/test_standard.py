"""Health and reflection, over both transports."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from support import WAIT_SECONDS
from support.redis_process import RedisProcess
from support.servers import ServerProcess

from statecast.service.access.principal import ANYBODY
from statecast.service.engine.request import Request
from statecast.service.tracing.spans import CallTrace
from statecast.service.transport.standard import Health

SERVICES = ("", "statecast.v1.ForecastService", "statecast.v1.ModelService")


@pytest.fixture(params=["grpc", "envoy"])
def server(request: pytest.FixtureRequest, any_redis: RedisProcess, models_folder: Path) -> Iterator[ServerProcess]:
    """A server whose grace period is longer than any test waits."""
    arguments = ("--redis-url", any_redis.url, "--models", str(models_folder), "--transport", request.param)
    server = ServerProcess(*arguments, "--grace-seconds", str(3 * WAIT_SECONDS))
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log


class Reader:
    """The stream of a caller that watches a service, and keeps what comes."""

    principal = ANYBODY
    asked: Request | None = None
    trace: CallTrace | None = None

    def __init__(self, service: str, told: list[int]) -> None:
        self._request, self._told = HealthCheckRequest(service=service), told

    def peer(self) -> str:
        return "peer"

    def time_remaining(self) -> float | None:
        return None

    def authorization(self) -> str | None:
        return None

    def subject(self) -> str | None:
        return None

    def traceparent(self) -> str | None:
        return None

    def header(self, name: str) -> str | None:
        return None

    async def read(self) -> HealthCheckRequest:
        return self._request

    async def write(self, message: bytes) -> None:
        self._told.append(HealthCheckResponse.FromString(message).status)


@pytest.fixture
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as channel:
        yield channel


def test_whoever_watches_its_health_hears_that_it_leaves_and_does_not_hold_it_up(
    server: ServerProcess, channel: grpc.Channel
) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    watches = {name: [health.Watch(HealthCheckRequest(service=name)) for _ in range(2)] for name in SERVICES}
    for both in watches.values():
        assert [next(watch).status for watch in both] == [HealthCheckResponse.SERVING] * 2
        both.pop().cancel()
    server.process.send_signal(signal.SIGTERM)
    for (watch,) in watches.values():
        assert next(watch).status == HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert server.process.wait(WAIT_SECONDS) == 0


async def test_whoever_is_being_told_while_it_leaves_hears_of_that_as_well() -> None:
    health, told = Health(()), list[int]()

    class SlowReader(Reader):
        async def write(self, message: bytes) -> None:
            await super().write(message)
            await asyncio.sleep(0)
            health.tell(is_up=False, has_ended=True)

    await health.watch(None, SlowReader("", told))
    assert told == [HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING]


async def test_the_services_follow_redis_and_the_server_does_not() -> None:
    health, told = Health(SERVICES), list[int]()
    reader = Reader(SERVICES[1], told)
    watch = asyncio.ensure_future(health.watch(None, reader))

    async def serves(service: str) -> bool:
        answer = await health.check(HealthCheckRequest(service=service), reader)
        assert isinstance(answer, bytes)
        return bool(HealthCheckResponse.FromString(answer).status == HealthCheckResponse.SERVING)

    for is_ready in (False, False, True):
        await asyncio.sleep(0.01)
        health.tell(is_ready=is_ready)
        assert await serves("")
        assert await serves(SERVICES[2]) == is_ready
    await asyncio.sleep(0.01)
    health.tell(is_up=False, has_ended=True)
    await watch
    serving, not_serving = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
    assert told == [serving, not_serving, serving, not_serving]


def test_there_is_no_health_of_a_service_that_is_not_there(server: ServerProcess, channel: grpc.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(HealthCheckRequest(service="nosuch"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = health.Watch(HealthCheckRequest(service="nosuch"))
    assert next(watch).status == HealthCheckResponse.SERVICE_UNKNOWN
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(WAIT_SECONDS) == 0


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_speaks_both_versions_and_describes_itself(channel: grpc.Channel, version: str) -> None:
    name = f"grpc.reflection.{version}.ServerReflection"
    call: Any = channel.stream_stream(
        f"/{name}/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    asked = [ServerReflectionRequest(list_services=""), ServerReflectionRequest(file_containing_symbol=name)]
    listed, described = call(iter(asked))
    names = {service.name for service in listed.list_services_response.service}
    assert {"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection", *SERVICES[1:]} <= names
    file = FileDescriptorProto.FromString(described.file_descriptor_response.file_descriptor_proto[0])
    assert file.package == f"grpc.reflection.{version}"
    assert file.service[0].method[0].input_type == f".grpc.reflection.{version}.ServerReflectionRequest"


def test_whoever_asks_what_there_is_does_not_hold_it_up(server: ServerProcess, channel: grpc.Channel) -> None:
    over = threading.Event()
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

    def requests() -> Iterator[ServerReflectionRequest]:
        yield ServerReflectionRequest(list_services="")
        over.wait(WAIT_SECONDS)

    answers = stub.ServerReflectionInfo(requests())
    assert set(SERVICES[1:]) < {service.name for service in next(answers).list_services_response.service}
    server.process.send_signal(signal.SIGTERM)
    assert list(answers) == []
    assert server.process.wait(WAIT_SECONDS) == 0
    over.set()
