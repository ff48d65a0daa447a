"""gRPC workers: they come and go, but no acknowledged observation is lost."""

import dataclasses
import errno
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support import WAIT_SECONDS, await_true
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread, workers
from support.wire import OPEN, observations

from statecast.client import Client
from statecast.service.edge import fronts
from statecast.service.edge.front import MOST_UNANSWERED, NUMBERS, Front
from statecast.service.edge.link import ASK_SECONDS
from statecast.service.edge.transport import Place, claim
from statecast.service.errors import StartupError
from statecast.service.rpc import methods
from statecast.service.settings import Settings
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

WORKERS = 2


def own_workers() -> list[psutil.Process]:
    """Return the worker processes of this process's servers, the newest last."""
    return sorted(workers(os.getpid()), key=lambda each: each.create_time())


@pytest.fixture
def server(any_redis: RedisProcess, models_folder: Path) -> Iterator[ServerProcess]:
    arguments = ("--redis-url", any_redis.url, "--namespace", "shared", "--models", str(models_folder))
    server = ServerProcess(*arguments, "--workers", str(WORKERS))
    yield server
    server.process.send_signal(signal.SIGCONT)
    assert server.stop() == 0, server.log
    assert "Traceback" not in server.log


def ask(target: str, session_id: str, value: float) -> pb.ForecastResponse:
    """Send one observation over its own connection."""
    with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        request = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(value))
        return ForecastServiceStub(channel).Forecast(request, timeout=20, wait_for_ready=True)


def test_connections_are_spread_and_counted_together(server: ServerProcess, session_id: str) -> None:
    target, calls = server.target, 40
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: ask(target, f"{session_id}-{number}", 1.0), range(calls)))
    assert all(answer.version.step == 1 for answer in answers)
    assert len(workers(server.process.pid)) == WORKERS
    held = [grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1), ("n", at)]) for at in range(32)]
    for channel in held:
        grpc.channel_ready_future(channel).result(20)
    connections = [
        sum(each.status == psutil.CONN_ESTABLISHED for each in front.net_connections("tcp"))
        for front in workers(server.process.pid)
    ]
    assert sum(connections) >= len(held)
    assert all(connections)
    for channel in held:
        channel.close()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as response:
        lines = response.read().decode().splitlines()
    labels = 'grpc_code="OK",grpc_method="Forecast",grpc_service="statecast.v1.ForecastService",grpc_type="unary"'
    assert f"grpc_server_handled_total{{{labels}}} {calls}.0" in lines


def test_one_that_is_killed_is_replaced_and_its_callers_go_on(server: ServerProcess, session_id: str) -> None:
    with Client(server.target) as client:
        session = client.session(session_id, "tiny")
        for step in range(1, 31):
            if step % 10 == 0:
                killed = workers(server.process.pid)
                for front in killed:
                    front.kill()
            assert session.observe(float(step)).version.step == step
    await_true(lambda: len(workers(server.process.pid)) == WORKERS)
    assert "a gRPC worker exited with status -9" in server.log
    assert not {front.pid for front in killed} & {front.pid for front in workers(server.process.pid)}


def test_they_end_with_the_engine(any_redis: RedisProcess, models_folder: Path, session_id: str) -> None:
    arguments = ("--redis-url", any_redis.url, "--namespace", "shared", "--models", str(models_folder))
    server = ServerProcess(*arguments, "--workers", str(WORKERS))
    assert ask(server.target, session_id, 1.0).version.step == 1
    left = workers(server.process.pid)
    for front in left:
        front.terminate()  # as a supervisor does that signals the whole group; workers wait for the engine to stop them
    assert ask(server.target, session_id, 2.0).version.step == 2
    server.kill()
    await_true(lambda: not any(front.is_running() and front.status() != psutil.STATUS_ZOMBIE for front in left))


def test_an_engine_that_hangs_is_left_by_its_callers(server: ServerProcess, session_id: str) -> None:
    assert ask(server.target, session_id, 1.0).version.step == 1
    before = workers(server.process.pid)
    server.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    await_true(lambda: all(front.status() == psutil.STATUS_ZOMBIE for front in before))
    assert time.monotonic() - stopped < 15
    server.process.send_signal(signal.SIGCONT)
    assert ask(server.target, session_id, 2.0).version.step == 2


def test_one_that_hangs_is_replaced(
    any_redis: RedisProcess, models_folder: Path, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fronts, "MOST_SILENT", 2)
    server = ServerThread(Settings(redis_url=any_redis.url, namespace="shared", models=models_folder, workers=1))
    assert ask(server.target, session_id, 1.0).version.step == 1
    time.sleep(3 * ASK_SECONDS)  # an idle worker is not mistaken for one that hangs
    hanging = own_workers()[-1]
    hanging.suspend()
    await_true(lambda: not hanging.is_running())
    assert ask(server.target, session_id, 2.0).version.step == 2
    server.stop()


def test_what_nobody_waits_for_any_more_is_not_carried_out(
    any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    settings = Settings(redis_url=any_redis.url, namespace="shared", models=models_folder, workers=1)
    server = ServerThread(settings)
    with grpc.insecure_channel(server.target) as channel:
        stub = ForecastServiceStub(channel)
        any_redis.pause()
        try:
            calls = []
            for value in range(20):
                request = pb.ForecastRequest(
                    session_id=session_id, open=OPEN, observations=observations(value), request_id=str(value)
                )
                calls.append(stub.Forecast.future(request, timeout=20))
                time.sleep(0.02)
            for call in calls[1::2]:
                call.cancel()
            time.sleep(0.2)
        finally:
            any_redis.resume()
        steps = [call.result().version.step for call in calls[::2]]
    server.stop()
    assert steps == list(range(1, 11))


def test_a_port_that_is_taken_is_refused(any_redis: RedisProcess, models_folder: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = ("--redis-url", any_redis.url, "--models", str(models_folder), "--workers", "2")
        server = ServerProcess(*arguments, port=port)
        assert server.process.wait(WAIT_SECONDS) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in server.log
    first = ServerProcess(*arguments)
    second = ServerProcess(*arguments, port=first.port)
    assert second.process.wait(WAIT_SECONDS) == 1
    assert "cannot listen on" in second.log
    assert first.stop() == 0


def test_asked_to_stop_they_first_say_so_and_finish_their_calls(
    any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    arguments = ("--redis-url", any_redis.url, "--namespace", "shared", "--models", str(models_folder))
    server = ServerProcess(*arguments, "--workers", "1", "--drain-seconds", "1")
    with grpc.insecure_channel(server.target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        server.process.send_signal(signal.SIGTERM)
        await_true(
            lambda: health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        )
        assert ask(server.target, session_id, 1.0).version.step == 1
    assert server.process.wait(WAIT_SECONDS) == 0
    assert "stopped" in server.log


def test_after_a_pause_of_everything_they_go_on(server: ServerProcess, session_id: str) -> None:
    assert ask(server.target, session_id, 1.0).version.step == 1
    before = workers(server.process.pid)
    paused = [server.process.pid, *(front.pid for front in before)]
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(ASK_SECONDS * MOST_UNANSWERED + 1.5)
    for pid in paused:
        os.kill(pid, signal.SIGCONT)
    time.sleep(2 * ASK_SECONDS)
    assert ask(server.target, session_id, 2.0).version.step == 2
    assert workers(server.process.pid) == before


def test_one_that_cannot_be_replaced_at_once_is_replaced_later(
    any_redis: RedisProcess, models_folder: Path, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fronts, "AGAIN_SECONDS", 0.1)
    server = ServerThread(Settings(redis_url=any_redis.url, namespace="shared", models=models_folder, workers=1))
    spawn, failures = fronts._spawn, [OSError(errno.EMFILE, "too many open files")] * 2

    async def sometimes() -> Any:
        if failures:
            raise failures.pop()
        return await spawn()

    monkeypatch.setattr(fronts, "_spawn", sometimes)
    own_workers()[-1].kill()
    assert ask(server.target, session_id, 1.0).version.step == 1
    assert not failures
    server.stop()


@pytest.mark.parametrize("count", [0, 1])
def test_a_defect_is_answered(
    any_redis: RedisProcess, models_folder: Path, session_id: str, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    def broken(response: object) -> bytes:
        raise ValueError(response)

    monkeypatch.setattr(methods, "_encode", broken)
    server = ServerThread(Settings(redis_url=any_redis.url, namespace="shared", models=models_folder, workers=count))
    with pytest.raises(grpc.RpcError) as caught:
        ask(server.target, session_id, 1.0)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    server.stop()


def test_a_place_is_kept_for_those_who_share_it() -> None:
    place = Place("127.0.0.1", 0, 1)
    with claim(place) as claimed:
        taken = dataclasses.replace(place, port=claimed.getsockname()[1])
        with pytest.raises(StartupError, match="cannot listen on"):
            claim(taken)
        for _ in range(2):
            with socket.socket() as sharing:
                sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sharing.bind((taken.host, taken.port))
                sharing.listen()
                with pytest.raises(StartupError, match="cannot listen on"):
                    claim(taken)
    claim(taken).close()


async def test_numbers_of_calls_begin_again() -> None:
    front = Front()
    front._number = NUMBERS - 2
    assert [front._next_number() for _ in range(3)] == [NUMBERS - 1, 0, 1]
