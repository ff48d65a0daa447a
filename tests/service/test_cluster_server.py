"""A server on a cluster: it lists all sessions, and stays ready when one primary is lost."""

import re
import signal
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from support import await_true
from support.redis_cluster import RedisCluster
from support.servers import ServerThread
from support.wire import failure

from statecast.client import Client
from statecast.service.settings import Settings
from statecast.service.store import monitor
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

SESSIONS = [f"pump {number}" for number in range(40)]


@pytest.fixture
def server(redis_cluster: RedisCluster, models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerThread]:
    monkeypatch.setattr(monitor, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(monitor, "PATIENCE_SECONDS", 0.5)
    await_true(redis_cluster.is_well)
    settings = Settings(
        redis_url=redis_cluster.url, models=models_folder, default_model="tiny", redis_timeout_seconds=0.3,
        namespace=uuid.uuid4().hex,
    )  # fmt: skip
    thread = ServerThread(settings)
    yield thread
    thread.stop()


def test_every_session_is_listed_and_a_lost_primary_takes_no_other_with_it(
    redis_cluster: RedisCluster, server: ServerThread
) -> None:
    with Client(server.target) as client, grpc.insecure_channel(server.target) as channel:
        for name in SESSIONS:
            client.session(name).observe([1.0])
        assert sorted(each.session_id for each in client.sessions("pump")) == sorted(SESSIONS)
        calls: Any = ForecastServiceStub(channel)
        assert _pages(calls) == sorted(SESSIONS)
        health: Any = health_pb2_grpc.HealthStub(channel)
        stopped = redis_cluster.primaries[0]
        stopped.signal(signal.SIGSTOP)
        try:
            await_true(lambda: _up(server) == 0)
            time.sleep(0.6)  # longer than a lost Redis may be lost
            question = HealthCheckRequest(service="statecast.v1.ForecastService")
            assert health.Check(question).status == HealthCheckResponse.SERVING
            codes = [_code(calls, name) for name in SESSIONS]
        finally:
            stopped.signal(signal.SIGCONT)
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        await_true(lambda: _up(server) == 1)
        await_true(redis_cluster.is_well)
        for name in SESSIONS:
            assert client.session(name).observe([2.0]).version.step == 2
        code, status = failure(lambda: calls.ListSessions(pb.ListSessionsRequest(page_token=str(2**78))))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert status.message == "page_token: not the next_page_token of an earlier page"


def _pages(calls: Any) -> list[str]:
    """Return the sessions that are listed, a few a page."""
    found, token = set(), ""
    while True:
        page = calls.ListSessions(pb.ListSessionsRequest(page_size=5, page_token=token))
        found |= {each.session_id for each in page.sessions}
        if not (token := page.next_page_token):
            return sorted(found)


def _code(calls: Any, name: str) -> grpc.StatusCode:
    try:
        calls.Forecast(pb.ForecastRequest(session_id=name, horizon=1))
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def _up(server: ServerThread) -> float:
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        found = re.search(r"^statecast_redis_up (\S+)", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found.group(1))
