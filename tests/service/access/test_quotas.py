"""Limits for each tenant: the file, the rates, and what their callers are told."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from support import await_true
from support.redis_process import RedisProcess
from support.servers import ServerThread
from support.wire import OPEN, detail, failure, observations, reason

from statecast.service.access import api_keys
from statecast.service.access.quotas import NO_LIMITS, Quota, Quotas
from statecast.service.errors import Overloaded, StartupError
from statecast.service.settings import Settings
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub


class Clock:
    """The time of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("statecast.service.access.quotas.time.monotonic", lambda: self.now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.toml"


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


def limited(path: Path, text: str) -> Quotas:
    path.write_text(text)
    return Quotas(path)


def test_a_tenant_has_its_own_table_or_that_of_the_others(path: Path) -> None:
    found = limited(path, "[others]\nstreams = 3\n[acme]\nrequests_per_second = 2.5\nqueue_mib = 1\n")
    assert found.of("acme") == Quota(requests_per_second=2.5, queue_mib=1)
    assert found.of("nobody") == Quota(streams=3)
    assert found.queue_bytes("acme") == 2**20
    assert Quotas().of("acme") == NO_LIMITS
    assert not Quotas().is_active


def test_a_rate_allows_a_seconds_worth_at_once_and_then_its_pace(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, found = Clock(monkeypatch), limited(path, "[acme]\nrequests_per_second = 4\n")
    for _ in range(4):
        found.take("acme", 1)
    with pytest.raises(Overloaded, match="tenant acme has reached its limit requests_per_second = 4") as caught:
        found.take("acme", 1)
    assert caught.value.retry_after_seconds == pytest.approx(0.25)
    found.take("other", 1)
    clock.now += 0.5
    for _ in range(2):
        found.take("acme", 1)
    with pytest.raises(Overloaded):
        found.take("acme", 1)
    clock.now += 3600
    for _ in range(4):
        found.take("acme", 1)
    with pytest.raises(Overloaded):
        found.take("acme", 1)


def test_a_large_request_is_taken_and_then_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, found = Clock(monkeypatch), limited(path, "[acme]\nobservations_per_second = 100\n")
    found.take("acme", 1000)
    with pytest.raises(Overloaded) as caught:
        found.take("acme", 1)
    assert caught.value.retry_after_seconds == pytest.approx(9.01)
    found.take("acme", 0)  # it appends nothing
    clock.now += caught.value.retry_after_seconds + 0.001
    found.take("acme", 1)


def test_a_file_that_changes_is_read_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = limited(path, "[acme]\nstreams = 3\n")
    path.write_text("[acme]\nstreams = x\n")
    found.look()
    found.look()
    assert found.of("acme").streams == 3
    assert caplog.text.count("the limits from before are kept") == 1
    path.write_text("[acme]\nstreams = 4\n")
    found.look()
    assert found.of("acme").streams == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "tenant-limits .* cannot be read: No such file"),
        ("[acme", "is not TOML"),
        ("[Acme]\nstreams = 1", r"\[Acme\] is not a table named after a tenant, or \[others\]"),
        ("acme = 1", r"\[acme\] is not a table"),
        ("[acme]\nstream = 1", "stream is not a limit; the limits are requests_per_second, .*, sessions"),
        ("[acme]\nstreams = 0", "streams = 0 is not a number above 0; leave it out for no limit"),
        ('[acme]\nstreams = "1"', "streams = '1' is not a number above 0"),
        ("[acme]\nstreams = true", "streams = True is not a number above 0"),
        ("[acme]\nstreams = inf", "streams = inf is not a number above 0"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(path: Path, text: str | None, says: str) -> None:
    if text is not None:
        path.write_text(text)
    with pytest.raises(StartupError, match=says):
        Quotas(path)


@dataclass
class Caller:
    """A tenant's caller of a server."""

    stub: Any
    headers: tuple[tuple[str, str], ...]

    def observe(self, session_id: str, *values: float) -> pb.ForecastResponse:
        request = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations(*values))
        answer: pb.ForecastResponse = self.stub.Forecast(request, metadata=self.headers, timeout=20)
        return answer

    def frame(self, *session_ids: str) -> list[pb.ForecastResult]:
        requests = [pb.ForecastRequest(session_id=each, open=OPEN) for each in session_ids]
        call = self.stub.ForecastMany(pb.ForecastManyRequest(requests=requests), metadata=self.headers, timeout=20)
        return list(call.results)


@pytest.fixture
def callers(
    any_redis: RedisProcess, models_folder: Path, tmp_path: Path, path: Path, namespace: str
) -> Iterator[dict[str, Caller]]:
    """Return callers of one server: `slow`, `few`, `small` and `free`, by what limits their tenant."""
    path.write_text(
        "[slow]\nrequests_per_second = 0.001\n[few]\nstreams = 1\n[small]\nsessions = 3\n[others]\nsessions = 1000000\n"
    )
    keys = tmp_path / "keys.json"
    made = {tenant: api_keys.create(keys, tenant, "write")[1] for tenant in ("slow", "few", "small", "free")}
    settings = Settings(
        redis_url=any_redis.url, models=models_folder, api_keys=keys, tenant_limits=path, namespace=namespace
    )
    server = ServerThread(settings)
    with grpc.insecure_channel(server.target) as channel:
        stub: Any = ForecastServiceStub(channel)
        yield {tenant: Caller(stub, (("authorization", f"Bearer {key}"),)) for tenant, key in made.items()}
    server.stop()


def test_who_asks_too_often_is_told_which_limit_and_when(callers: dict[str, Caller]) -> None:
    slow, free = callers["slow"], callers["free"]
    assert slow.observe("s", 1).version.step == 1
    code, status = failure(lambda: slow.observe("s", 2))
    assert (code, reason(status)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert "requests_per_second = 0.001" in status.message
    assert detail(status, error_details_pb2.RetryInfo).retry_delay.seconds > 500
    code, _ = failure(lambda: slow.stub.ListSessions(pb.ListSessionsRequest(), metadata=slow.headers))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert free.observe("s", 1).version.step == 1


def test_streams_are_limited(callers: dict[str, Caller]) -> None:
    few, free = callers["few"], callers["free"]
    stop: list[Any] = []

    def open_stream(caller: Caller) -> Any:
        hello = pb.ForecastStreamRequest(requests=[pb.ForecastRequest(session_id="s", open=OPEN)])

        def frames() -> Iterator[pb.ForecastStreamRequest]:
            yield hello
            await_true(lambda: bool(stop))

        return caller.stub.ForecastStream(frames(), metadata=caller.headers, timeout=20)

    first = open_stream(few)
    assert next(first).results[0].response.opened
    code, status = failure(lambda: next(open_stream(few)))
    assert (code, reason(status)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert next(open_stream(free)).results[0].response.opened
    stop.append(True)
    assert list(first) == []
    again = open_stream(few)
    assert not next(again).results[0].status.code


def test_sessions_are_limited(callers: dict[str, Caller]) -> None:
    small, free = callers["small"], callers["free"]
    for name in ("a", "b", "c"):
        assert small.observe(name, 1).opened
    code, status = failure(lambda: small.observe("d", 1))
    assert (code, reason(status)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert "session 'd' was not opened" in status.message
    assert small.observe("a", 2).version.step == 2
    fork = pb.ForkSessionRequest(source_session_id="a", session_id="e")
    code, status = failure(lambda: small.stub.ForkSession(fork, metadata=small.headers, timeout=20))
    assert reason(status) == "QUOTA_EXCEEDED"
    assert free.observe("d", 1).opened


def test_a_frame_beyond_the_limit_fails_in_part_and_in_order(callers: dict[str, Caller]) -> None:
    results = callers["slow"].frame("a", "b", "c")
    assert [result.status.code for result in results] == [0, *[grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]] * 2]


def test_a_new_server_counts_the_sessions_of_a_tenant(
    callers: dict[str, Caller],
    any_redis: RedisProcess,
    models_folder: Path,
    tmp_path: Path,
    path: Path,
    namespace: str,
) -> None:
    """Counts are kept in memory; the first scan follows soon after a tenant's first request."""
    small = callers["small"]
    for name in ("a", "b", "c"):
        small.observe(name, 1)
    settings = Settings(
        redis_url=any_redis.url, models=models_folder, api_keys=tmp_path / "keys.json", tenant_limits=path,
        namespace=namespace,
    )  # fmt: skip
    server = ServerThread(settings)
    with grpc.insecure_channel(server.target) as channel:
        other = Caller(ForecastServiceStub(channel), small.headers)
        assert other.observe("a", 1).version.step == 2

        def is_refused() -> bool:
            try:
                other.observe(f"new {uuid.uuid4().hex}", 1)
            except grpc.RpcError as error:
                return bool(error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED)
            return False

        await_true(is_refused)
    server.stop()
