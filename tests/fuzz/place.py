"""A real server to fuzz, its memory use, and sessions that must not be affected."""

import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from support import short_folder
from support.engines import expected
from support.models import HORIZON, TARGETS, write_rich_models
from support.redis_process import RedisProcess, redis_binaries
from support.servers import ServerProcess

from fuzz.checks import Levels
from statecast.v1 import forecast_pb2, model_service_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from statecast.v1.model_service_pb2_grpc import ModelServiceStub

MIB = 2**20
TROUBLE = re.compile(r"^(Traceback|.* (ERROR|CRITICAL) |Exception |Fatal |\w[\w.]*(Error|Exception): ).*", re.MULTILINE)
"""Pattern of log lines that show a failure of the server itself."""
SECONDS = 20.0
START = 1_700_006_400


@dataclass
class Place:
    """A server process, and a channel to it for valid calls."""

    server: ServerProcess
    channel: grpc.Channel
    _told: int = 0
    """Length of the log that `trouble` has reported."""

    @property
    def stub(self) -> ForecastServiceStub:
        return ForecastServiceStub(self.channel)

    def levels(self) -> Levels:
        """Return the quantile levels of all models, by their targets."""
        found: Levels = {}
        models: Any = ModelServiceStub(self.channel).ListModels(model_service_pb2.ListModelsRequest())
        for model in models.models:
            found.setdefault(tuple(model.targets), set()).add(tuple(model.quantile_levels))
        return found

    def rss(self) -> int:
        """Return the server's memory, in bytes."""
        return self._memory("VmRSS")

    def peak(self) -> int:
        """Return the peak memory since `forget_peak`, in bytes."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.server.engine.pid}/clear_refs").write_text("5")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.server.engine.pid}/status").read_text()
        match = re.search(rf"{name}:\s+(\d+) kB", status)
        assert match is not None
        return int(match.group(1)) * 1024

    def streams(self) -> int:
        """Return the number of ForecastStream calls in flight."""
        return self._streams("started") - self._streams("handled")

    def streams_seen(self) -> int:
        """Return the number of ForecastStream calls since the server's start."""
        return self._streams("started")

    def _streams(self, what: str) -> int:
        url = f"http://127.0.0.1:{self.server.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=SECONDS) as page:
            text = page.read().decode()
        pattern = rf'^grpc_server_{what}_total{{[^}}]*grpc_method="ForecastStream"[^}}]*}} (\S+)$'
        return int(sum(map(float, re.findall(pattern, text, re.MULTILINE))))

    def trouble(self) -> list[str]:
        """Return whether the server has ended, and new failures in its log, as text."""
        log = self.server.log
        logged = Counter(match.group()[:300] for match in TROUBLE.finditer(log, self._told))
        self._told = len(log)
        found = [f"the server ended with {code}" for code in [self.server.process.poll()] if code is not None]
        return found + [f"logged {count} x {line}" for line, count in logged.items()]


@contextmanager
def place(redis_url: str, models: Path, *options: str) -> Iterator[Place]:
    """Run a server on this Redis, and check that it ends cleanly."""
    server = ServerProcess("--redis-url", redis_url, "--models", str(models), "--grace-seconds", "1", *options)
    try:
        with grpc.insecure_channel(server.target) as channel:
            yield Place(server, channel)
        assert server.stop() == 0, server.log
    finally:
        server.kill()


@contextmanager
def own_place(*options: str) -> Iterator[Place]:
    """Run a server with its own Redis."""
    with short_folder() as folder, short_folder() as models:
        redis = RedisProcess(next(iter(redis_binaries().values())), folder, appendfsync="everysec")
        try:
            with place(redis.url, write_rich_models(models), *options) as found:
                yield found
        finally:
            redis.stop()


class Bystanders:
    """One untouched session of each model, and its forecast."""

    def __init__(self, stub: ForecastServiceStub, name: str) -> None:
        self._stub = stub
        self._requests = [_bystander(f"{name}-{model}", model) for model in ("base", *TARGETS)]
        self._before = [self._forecast(request) for request in self._requests]

    def wrong(self) -> list[str]:
        """Return descriptions of sessions that have changed, and of errors in a new session."""
        found = []
        for request, before in zip(self._requests, self._before, strict=True):
            # The server knows the request id, so it appends nothing unless it lost the request.
            after = self._forecast(request)
            if (after.version, after.forecast) != (before.version, before.forecast) or not after.replayed:
                found.append(f"{request.session_id} is at {after.version}, not at {before.version}")
        return found + self._wrong_with_newcomer()

    def _forecast(self, request: pb.ForecastRequest) -> Any:
        return self._stub.Forecast(request, timeout=SECONDS)

    def _wrong_with_newcomer(self) -> list[str]:
        values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
        options = forecast_pb2.OpenOptions(model="tiny")
        session_id = self._requests[0].session_id + "-newcomer"
        for value in values:
            observations = forecast_pb2.Observations(values=[value])
            request = pb.ForecastRequest(session_id=session_id, open=options, observations=observations)
            self._forecast(request)
        answer = self._forecast(pb.ForecastRequest(session_id=session_id, horizon=HORIZON))
        self._stub.CloseSession(pb.CloseSessionRequest(session_id=session_id), timeout=SECONDS)
        wanted = expected(values).ravel()
        if answer.version.step == len(values) and np.allclose(answer.forecast.values, wanted, rtol=1e-4, atol=1e-5):
            return []
        return [f"a new session is at step {answer.version.step} and forecasts {list(answer.forecast.values)}"]


def _bystander(session_id: str, model: str) -> pb.ForecastRequest:
    request = pb.ForecastRequest(session_id=session_id, horizon=HORIZON, request_id="bystander")
    request.open.model = model
    request.observations.values.extend(range(6))
    if model == "hourly":
        request.observations.start_time.seconds = START
    return request
