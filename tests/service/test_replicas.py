"""Two servers on one Redis, one after the other restarted under load: no caller sees an error."""

import asyncio
import itertools
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from support import WAIT_SECONDS, await_true
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread
from support.wire import OPEN, observations

from statecast.client import AsyncClient, Client, Receipt
from statecast.service.settings import Settings
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub


class Replicas:
    """Two servers, each restarted on its own port."""

    def __init__(self, redis: RedisProcess, models: Path, namespace: str) -> None:
        self._arguments = ["--redis-url", redis.url, "--models", str(models), "--namespace", namespace]
        self._arguments += ["--drain-seconds", "0.3"]
        self._servers = [ServerProcess(*self._arguments) for _ in range(2)]
        self._ports = [server.port for server in self._servers]
        self.target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def restart(self, number: int) -> None:
        assert self._servers[number].stop() == 0, self._servers[number].log
        self._servers[number] = ServerProcess(*self._arguments, port=self._ports[number])
        assert self._servers[number].port == self._ports[number]

    @contextmanager
    def stopped(self, number: int) -> Iterator[None]:
        """One of them does nothing meanwhile, and keeps its connections."""
        process = self._servers[number].process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for server in self._servers:
            assert server.stop() == 0


@pytest.fixture
def replicas(any_redis: RedisProcess, models_folder: Path, session_id: str) -> Iterator[Replicas]:
    replicas = Replicas(any_redis, models_folder, session_id)
    yield replicas
    replicas.stop()


def test_a_rolling_restart_under_load_is_not_seen(replicas: Replicas) -> None:
    over = threading.Event()

    def call(number: int) -> int:
        with Client(replicas.target, timeout_seconds=30) as client:
            session = client.session(f"sync-{number}", "tiny")
            for step in itertools.count(1):
                assert session.step(float(step), 3).version.step == step
                if over.is_set():
                    return step
        raise AssertionError

    async def stream() -> int:
        async with AsyncClient(replicas.target, timeout_seconds=30) as client:
            sessions = [client.session(f"async-{number}", "tiny") for number in range(20)]
            for step in itertools.count(1):
                results = await asyncio.gather(*(session.step(float(step), 3) for session in sessions))
                assert {result.version.step for result in results} == {step}
                if over.is_set():
                    return step
        raise AssertionError

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(call, number) for number in range(4)]
        calls.append(threads.submit(lambda: asyncio.run(stream())))
        try:
            for number in (0, 1, 0, 1):
                replicas.restart(number)
        finally:
            over.set()
        assert all(each.result(WAIT_SECONDS) > 20 for each in calls)


OWN = [("grpc.use_local_subchannel_pool", 1)]
"""Channels of one process share their connections otherwise, and a connection is a caller."""


def batches(server: ServerThread) -> float:
    text = urlopen(server.metrics_url).read().decode()
    return float(re.findall(r"^statecast_batch_sessions_count (\S+)$", text, re.MULTILINE)[0])


def test_one_caller_with_fifty_times_the_load_does_not_starve_another(
    any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    settings = Settings(redis_url=any_redis.url, models=models_folder, namespace=session_id, queue_requests=2000)
    server = ServerThread(settings)
    over = threading.Event()

    def frame() -> Iterator[pb.ForecastRequest]:
        for at in range(1000):
            yield pb.ForecastRequest(session_id=f"g-{at}", open=OPEN, observations=observations(*range(50)), horizon=6)

    def flood() -> None:
        with grpc.insecure_channel(server.target) as channel:
            stub = ForecastServiceStub(channel)
            request = pb.ForecastManyRequest(requests=frame())
            while not over.is_set():
                stub.ForecastMany(request)

    with ThreadPoolExecutor(4) as threads, grpc.insecure_channel(server.target, OWN) as channel:
        floods = [threads.submit(flood) for _ in range(3)]
        stub = ForecastServiceStub(channel)
        try:
            await_true(lambda: batches(server) > 3)
            before = batches(server)
            for step in range(1, 16):
                request = pb.ForecastRequest(session_id="modest", open=OPEN, observations=observations(1), horizon=6)
                assert stub.Forecast(request, timeout=WAIT_SECONDS).version.step == step
            # The flood has some twelve batches waiting at any time; the modest caller sits out one or two.
            assert batches(server) - before <= 15 * 4
        finally:
            over.set()
        for each in floods:
            each.result(WAIT_SECONDS)
    server.stop()


@pytest.mark.parametrize("kind", ["call", "stream", "asynchronous"])
def test_a_server_that_is_stopped_costs_seconds_and_no_error(replicas: Replicas, kind: str) -> None:
    with Client(replicas.target, timeout_seconds=20) as client:
        sessions = [client.session(f"{kind}-{number}", "tiny") for number in range(6)]
        client.observe_many([(session, 1.0) for session in sessions])
        with replicas.stopped(0):
            started = time.monotonic()
            if kind == "call":
                with ThreadPoolExecutor(6) as threads:
                    steps = [receipt.version.step for receipt in threads.map(lambda each: each.observe(2.0), sessions)]
            elif kind == "stream":
                results = list(client.stream((session, 2.0) for session in sessions))
                steps = [result.version.step for _, result in results if isinstance(result, Receipt)]
            else:
                steps = asyncio.run(observe_all(replicas.target, [session.id for session in sessions]))
            assert time.monotonic() - started < 12
    assert steps == [2] * 6


async def observe_all(target: str, names: list[str]) -> list[int]:
    async with AsyncClient(target, timeout_seconds=20) as client:
        receipts = await asyncio.gather(*(client.session(name).observe(2.0) for name in names))
        return [receipt.version.step for receipt in receipts]
