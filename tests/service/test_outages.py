"""Redis slow, gone, or back with an older copy: bounded waits, plain words, recovery without a restart."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import pytest
from support import short_folder
from support.redis_process import RedisProcess, redis_binaries
from support.servers import ServerThread
from support.wire import OPEN, failure, observations, reason

from statecast.client import Client, SessionRegressed
from statecast.service.settings import Settings
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

TIMEOUT_SECONDS = 0.5


def request(session_id: str, *values: float) -> pb.ForecastRequest:
    return pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(*values), horizon=1)


@pytest.fixture
def server(own_redis: RedisProcess, models_folder: Path) -> Iterator[ServerThread]:
    """A server with small batches and little patience, on a Redis of its own."""
    thread = ServerThread(
        Settings(redis_url=own_redis.url, models=models_folder, redis_timeout_seconds=TIMEOUT_SECONDS, batch_sessions=8)
    )
    yield thread
    thread.stop()


def test_nobody_waits_for_one_time_out_after_the_other(server: ServerThread, own_redis: RedisProcess) -> None:
    with grpc.insecure_channel(server.target) as channel, ThreadPoolExecutor(64) as threads:
        stub = ForecastServiceStub(channel)
        stub.Forecast(request("first", 1))
        own_redis.pause()
        started = time.monotonic()
        requests = [request(f"s-{at}", 1) for at in range(200)]
        calls = [threads.submit(failure, partial(stub.Forecast, each)) for each in requests]
        answers = Counter((code, reason(status)) for code, status in (call.result() for call in calls))
        assert time.monotonic() - started < 8 * TIMEOUT_SECONDS  # and not once for each of 25 batches
        assert answers == {(grpc.StatusCode.UNAVAILABLE, "STORE_UNREACHABLE"): 200}
        own_redis.resume()
        assert stub.Forecast(request("first", 2)).version.step == 2


def test_redis_restored_from_an_older_copy_is_noticed(models_folder: Path, session_id: str) -> None:
    with short_folder() as folder, short_folder() as backup:
        redis = RedisProcess(next(iter(redis_binaries().values())), folder)
        server = ServerThread(Settings(redis_url=redis.url, models=models_folder))
        with Client(server.target) as client:
            session, forgetful = client.session("a", "tiny"), client.session("b", "tiny", replay_requests=0)
            for each in (session, forgetful):
                each.observe([1.0, 2.0])
            redis.stop()
            shutil.copytree(folder, backup, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
            redis.start()
            for each in (session, forgetful):
                assert each.observe(3.0).version.step == 3
            redis.kill()
            shutil.copytree(backup, folder, dirs_exist_ok=True)
            redis.start()
            assert session.observe(4.0).version.step == 4
            with pytest.raises(SessionRegressed, match="step 2"):
                forgetful.observe(4.0)
            assert client.session("a").observe([]).version == client.session("c", "tiny").observe([1, 2, 3, 4]).version
        server.stop()
        redis.stop()
