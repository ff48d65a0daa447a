"""The services' health follows Redis, and settings that lose data are noticed while the server runs."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from support import await_true
from support.redis_process import RedisProcess
from support.scraping import ask
from support.servers import ServerProcess, ServerThread
from support.wire import OPEN, failure, observations, reason

from statecast.service.metrics_endpoint import MetricsEndpoint
from statecast.service.models.kernels import Kernels
from statecast.service.settings import Settings
from statecast.service.store import monitor
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

FORECASTS = "statecast.v1.ForecastService"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(monitor, "CHECK_SECONDS", 0.3)
    monkeypatch.setattr(monitor, "PATIENCE_SECONDS", 1.0)


class Seen:
    """A server, and what is seen of it from outside."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._forecasts = ForecastServiceStub(self._channel)

    def serves(self, service: str = FORECASTS) -> bool:
        answer = self._health.Check(HealthCheckRequest(service=service))
        return bool(answer.status == HealthCheckResponse.SERVING)

    def step(self, session_id: str) -> pb.ForecastResponse:
        request = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(1.0))
        return self._forecasts.Forecast(request)

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def seen(own_redis: RedisProcess, models_folder: Path) -> Iterator[Seen]:
    own_redis.set_user("server", "on", "nopass", "~*", "+@all")
    url = f"unix://server:x@{own_redis.socket}"
    thread = ServerThread(Settings(redis_url=url, models=models_folder, redis_timeout_seconds=0.5))
    seen = Seen(thread.target)
    yield seen
    seen.close()
    thread.stop()


def test_a_lost_redis_makes_the_services_not_ready_after_a_while(own_redis: RedisProcess, seen: Seen) -> None:
    assert seen.serves()
    own_redis.kill()
    lost_at = time.monotonic()
    assert seen.serves()
    await_true(lambda: not seen.serves())
    assert time.monotonic() - lost_at > 0.9
    assert seen.serves("")  # the process itself is well, and needs no restart
    assert failure(lambda: seen.step("a"))[0] is grpc.StatusCode.UNAVAILABLE
    own_redis.start()
    own_redis.set_user("server", "on", "nopass", "~*", "+@all")
    await_true(seen.serves)
    assert seen.step("a").version.step == 1


def test_a_redis_that_is_gone_for_a_moment_changes_nothing(own_redis: RedisProcess, seen: Seen) -> None:
    own_redis.kill()
    time.sleep(0.3)
    own_redis.start()
    own_redis.set_user("server", "on", "nopass", "~*", "+@all")
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert seen.serves()
        time.sleep(0.05)


def test_a_right_that_is_taken_away_makes_them_not_ready_at_once(
    own_redis: RedisProcess, seen: Seen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(monitor, "CHECK_SECONDS", math.inf)  # on a machine that has just started, any number is long
    assert seen.step("a").version.step == 1
    own_redis.set_user("server", "-append")
    code, status = failure(lambda: seen.step("a"))
    assert (code, reason(status)) == (grpc.StatusCode.FAILED_PRECONDITION, "STORE_REFUSES")
    await_true(lambda: not seen.serves())
    assert seen.serves("")
    assert sum("does not let this user run APPEND" in record.getMessage() for record in caplog.records) == 1
    own_redis.set_user("server", "+append")
    await_true(seen.serves)
    assert seen.step("a").version.step == 2


@pytest.mark.parametrize(
    ("spoil", "mend", "says"),
    [
        (("maxmemory-policy", "allkeys-lru"), ("maxmemory-policy", "noeviction"), "evicts keys"),
        (("appendonly", "no"), ("appendonly", "yes"), "keeps no append-only file"),
    ],
)
def test_settings_that_lose_data_are_told_while_it_runs(
    own_redis: RedisProcess,
    seen: Seen,
    caplog: pytest.LogCaptureFixture,
    spoil: tuple[str, str],
    mend: tuple[str, str],
    says: str,
) -> None:
    def told() -> int:
        return sum(says in record.getMessage() and record.levelname == "ERROR" for record in caplog.records)

    caplog.set_level("INFO")
    assert seen.step("a").version.step == 1
    own_redis.client.config_set(*spoil)
    await_true(lambda: told() == 1)
    assert seen.serves()
    assert seen.step("a").version.step == 2
    time.sleep(0.7)
    assert told() == 1
    own_redis.client.config_set(*mend)
    await_true(lambda: any("persists sessions again" in record.getMessage() for record in caplog.records))


def test_metrics_can_be_read_while_kernels_are_loaded(
    own_redis: RedisProcess, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints: list[MetricsEndpoint] = []
    told: list[tuple[int, bytes]] = []

    class Noted(MetricsEndpoint):
        def start(self) -> None:
            super().start()
            endpoints.append(self)

    def load(_: Kernels) -> None:
        told.append((ask(endpoints[0])[0], ask(endpoints[0], "/readyz")[2]))

    monkeypatch.setattr("statecast.service.server.MetricsEndpoint", Noted)
    monkeypatch.setattr(Kernels, "start", load)
    ServerThread(Settings(redis_url=own_redis.url, models=models_folder)).stop()
    assert told == [(200, b"not ready\n")]


@pytest.mark.parametrize("transport", ["grpc", "envoy"])
def test_both_transports_say_the_same(
    own_redis: RedisProcess, models_folder: Path, transport: str, run_health: Callable[..., tuple[int, str]]
) -> None:
    own_redis.set_user("server", "on", "nopass", "~*", "+@all")
    url = f"unix://server:x@{own_redis.socket}"
    server = ServerProcess("--redis-url", url, "--models", str(models_folder), "--transport", transport)
    seen = Seen(server.target)
    try:
        assert run_health(server.target, "--service", FORECASTS) == (0, "SERVING")
        own_redis.set_user("server", "-append")
        seen.step("a")
        assert failure(lambda: seen.step("a"))[0] is grpc.StatusCode.FAILED_PRECONDITION
        await_true(lambda: not seen.serves())
        assert run_health(server.target, "--service", FORECASTS) == (1, "NOT_SERVING")
        assert run_health(server.target) == (0, "SERVING")
    finally:
        seen.close()
        assert server.stop() == 0


@pytest.fixture
def run_health() -> Callable[..., tuple[int, str]]:
    """Runs `statecast health`: its exit status, and what it says."""
    from click.testing import CliRunner

    from statecast.service.cli.main import main

    def run(target: str, *options: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["health", "--target", target, *options])
        return done.exit_code, done.output.strip().removeprefix("Error: ")

    return run
