"""Metrics of the parts: Redis, the engine's threads, the event loop, and records."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import await_true
from support.redis_process import RedisProcess
from support.servers import ServerThread
from support.wire import OPEN, failure, observations

from statecast.service.settings import Settings
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub


class Seen:
    """A server, its caller, and its metrics."""

    def __init__(self, server: ServerThread, channel: grpc.Channel) -> None:
        self._server, self._stub = server, ForecastServiceStub(channel)

    def observe(self, session_id: str, value: float) -> None:
        request = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(value))
        self._stub.Forecast(request, timeout=10)

    def value(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(urlopen(self._server.metrics_url, timeout=10).read().decode())
        samples: list[Any] = [sample for family in families for sample in family.samples]
        return float(sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items()))


@pytest.fixture
def seen(own_redis: RedisProcess, models_folder: Path) -> Iterator[Seen]:
    settings = Settings(redis_url=own_redis.url, models=models_folder, cache_sessions=1, redis_timeout_seconds=0.5)
    server = ServerThread(settings)
    with grpc.insecure_channel(server.target) as channel:
        yield Seen(server, channel)
    server.stop()


def test_what_redis_and_the_engine_do_is_timed(seen: Seen) -> None:
    begin = time.perf_counter()
    for number in range(4):
        seen.observe("ab"[number % 2], number)
    assert seen.value("statecast_redis_up") == 1
    assert seen.value("statecast_redis_seconds_count", operation="commit") == 4
    assert seen.value("statecast_redis_seconds_count", operation="load") == 4
    assert seen.value("statecast_sessions_read_total", model="tiny") == 2  # each is opened once, and read once
    assert seen.value("statecast_engine_threads") == 2
    assert 0 < seen.value("statecast_engine_busy_seconds_total") < 2 * (time.perf_counter() - begin)
    await_true(lambda: seen.value("statecast_event_loop_lag_seconds_count") > 0)


def test_a_damaged_record_is_counted(seen: Seen, own_redis: RedisProcess) -> None:
    seen.observe("a", 1)
    seen.observe("b", 1)
    own_redis.client.setrange("statecast:default:a", 40, b"x")
    failure(lambda: seen.observe("a", 2))
    assert seen.value("statecast_records_refused_total", reason="RECORD_DAMAGED") == 1
    assert seen.value("statecast_records_refused_total", reason="MODEL_CHANGED") == 0


def test_a_redis_that_is_gone_and_back_shows(seen: Seen, own_redis: RedisProcess) -> None:
    own_redis.pause()
    await_true(lambda: seen.value("statecast_redis_up") == 0)
    own_redis.resume()
    await_true(lambda: seen.value("statecast_redis_up") == 1)
