"""Limits of connections, calls and headers; pings, silent streams, and connections that grow old."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from support import await_true
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import failure

from statecast.service.envoy import launcher
from statecast.service.envoy.configuration import HEADER_KIB
from statecast.v1 import model_service_pb2
from statecast.v1.model_service_pb2_grpc import ModelServiceStub

pytestmark = pytest.mark.skipif(bool(launcher.why_not()), reason=launcher.why_not())
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


@pytest.fixture
def start(any_redis: RedisProcess, models_folder: Path) -> Iterator[Callable[..., ServerProcess]]:
    servers: list[ServerProcess] = []

    def start(*arguments: str) -> ServerProcess:
        common = ("--transport", "envoy", "--redis-url", any_redis.url, "--models", str(models_folder))
        servers.append(ServerProcess(*common, *arguments))
        return servers[-1]

    yield start
    for server in servers:
        assert server.stop() == 0


def list_models(channel: grpc.Channel, **others: Any) -> None:
    call: Any = ModelServiceStub(channel).ListModels
    call(model_service_pb2.ListModelsRequest(), **{"timeout": 10, **others})


def watch(channel: grpc.Channel) -> Any:
    health: Any = health_pb2_grpc.HealthStub(channel)
    return health.Watch(health_pb2.HealthCheckRequest())


def statistic(server: ServerProcess, name: str) -> float:
    text = urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=10).read().decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == name)


def test_more_connections_than_allowed_are_refused(start: Callable[..., ServerProcess]) -> None:
    server = start("--max-connections", "3")

    def is_served(connection: socket.socket) -> bool:
        try:
            connection.sendall(PREFACE)
            return bool(connection.recv(9))
        except ConnectionError:
            return False

    place = ("127.0.0.1", server.port)
    connections = [socket.create_connection(place, timeout=10) for _ in range(3)]
    assert all(map(is_served, connections))
    with socket.create_connection(place, timeout=10) as another:
        assert not is_served(another)
    connections.pop().close()

    def has_room() -> bool:
        with socket.create_connection(place, timeout=10) as again:
            return is_served(again)

    await_true(has_room)
    for connection in connections:
        connection.close()


def test_more_calls_than_allowed_wait_in_their_client(start: Callable[..., ServerProcess]) -> None:
    server = start("--max-concurrent-calls", "2")
    with grpc.insecure_channel(server.target, [OWN_CONNECTION]) as channel:
        first, second = watch(channel), watch(channel)
        assert next(first).status == next(second).status == health_pb2.HealthCheckResponse.SERVING
        code, _ = failure(lambda: list_models(channel, timeout=0.5))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        second.cancel()
        list_models(channel)
        first.cancel()


def test_a_silent_stream_is_not_cut_and_pings_are_answered(start: Callable[..., ServerProcess]) -> None:
    server = start()
    pings = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_permit_without_calls", 1)]
    for options in ([OWN_CONNECTION], [OWN_CONNECTION, ("grpc.http2.max_pings_without_data", 0), *pings]):
        with grpc.insecure_channel(server.target, options) as channel:
            stream = watch(channel)
            next(stream)
            time.sleep(4)
            assert stream.is_active()
            list_models(channel)
            stream.cancel()


def test_headers_beyond_the_limit_are_refused_and_others_go_on(start: Callable[..., ServerProcess]) -> None:
    server = start()
    with grpc.insecure_channel(server.target, [OWN_CONNECTION]) as channel:
        list_models(channel, metadata=(("x", "a" * (HEADER_KIB - 2) * 1024),))
        code, _ = failure(lambda: list_models(channel, metadata=(("x", "a" * (HEADER_KIB + 1) * 1024),)))
        assert code is grpc.StatusCode.INTERNAL  # Envoy resets the stream; there is no answer
        list_models(channel)


def test_an_old_connection_is_replaced_without_an_error(start: Callable[..., ServerProcess]) -> None:
    server = start("--max-connection-age-seconds", "1")
    total = "envoy_listener_downstream_cx_total"
    with grpc.insecure_channel(server.target, [OWN_CONNECTION]) as channel:
        list_models(channel)
        before, end = statistic(server, total), time.monotonic() + 4
        while time.monotonic() < end:
            list_models(channel)
        assert statistic(server, total) - before >= 2
