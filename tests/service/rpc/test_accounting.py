"""Every request is counted once with its outcome, whether alone, in a frame or on a stream."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import await_true
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread
from support.wire import OPEN, observations

from statecast.service.rpc.accounting import Kind, outcomes
from statecast.service.settings import Settings
from statecast.v1 import admin_service_pb2 as admin
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1 import model_service_pb2
from statecast.v1.admin_service_pb2_grpc import AdminServiceStub
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub
from statecast.v1.model_service_pb2_grpc import ModelServiceStub
from statecast.v1.reasons import Reason

FORECASTS = "/statecast.v1.ForecastService/"
Counts = Counter[tuple[str, str, str]]


def request(session_id: str = "a", *values: float, horizon: int = 0, **others: Any) -> pb.ForecastRequest:
    return pb.ForecastRequest(
        session_id=session_id, open=OPEN, observations=observations(*values), horizon=horizon, **others
    )


class Seen:
    """A separate server and its counters."""

    def __init__(self, server: ServerThread | ServerProcess) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(server.target)
        self.forecasts, self.models = ForecastServiceStub(self.channel), ModelServiceStub(self.channel)
        self.admin: Any = AdminServiceStub(self.channel)

    def samples(self, name: str) -> list[Any]:
        families = text_string_to_metric_families(urlopen(self.server.metrics_url).read().decode())
        return [sample for family in families for sample in family.samples if sample.name == name]

    def counts(self) -> Counts:
        """Return the counters above 0, by kind, code and reason."""
        found: Counts = Counter()
        for sample in self.samples("statecast_requests_total"):
            if sample.value:
                found[sample.labels["kind"], sample.labels["code"], sample.labels["reason"]] = int(sample.value)
        return found

    def timed(self) -> dict[str, int]:
        """Return the number of timed requests of each kind."""
        samples = self.samples("statecast_request_seconds_count")
        return {sample.labels["kind"]: int(sample.value) for sample in samples if sample.value}


@pytest.fixture
def seen(request: pytest.FixtureRequest, own_redis: RedisProcess, models_folder: Path) -> Iterator[Seen]:
    """Start a server, over grpcio unless a test asks for Envoy; one that asks gets longer patience with Redis."""
    server: ServerThread | ServerProcess
    transport = getattr(request, "param", None)
    if transport != "envoy":
        settings = Settings(redis_url=own_redis.url, models=models_folder, default_model="tiny")
        server = ServerThread(replace(settings, redis_timeout_seconds=20.0 if transport else 0.5))
    else:
        arguments = ("--models", str(models_folder), "--default-model", "tiny", "--redis-timeout-seconds", "20")
        server = ServerProcess("--transport", "envoy", "--redis-url", own_redis.url, *arguments)
    seen = Seen(server)
    yield seen
    seen.channel.close()
    server.stop()


def test_every_outcome_is_there_from_the_start(seen: Seen) -> None:
    assert seen.counts() == Counter()
    there = {tuple(sample.labels.values()) for sample in seen.samples("statecast_requests_total")}
    assert len(there) == len(Kind) * len(set(outcomes()))
    assert {reason for _, reason in outcomes()} == {*map(str, Reason), ""}


def attempt(call: Callable[[], object]) -> None:
    try:
        call()
    except grpc.RpcError:
        return


def alone(seen: Seen, asked: Sequence[pb.ForecastRequest]) -> None:
    for each in asked:
        attempt(partial(seen.forecasts.Forecast, each))


def in_a_frame(seen: Seen, asked: Sequence[pb.ForecastRequest]) -> None:
    seen.forecasts.ForecastMany(pb.ForecastManyRequest(requests=asked))


def on_a_stream(seen: Seen, asked: Sequence[pb.ForecastRequest]) -> None:
    frames = iter([pb.ForecastStreamRequest(requests=[each]) for each in asked])
    assert sum(len(frame.results) for frame in seen.forecasts.ForecastStream(frames)) == len(asked)


@pytest.mark.parametrize("send", [alone, in_a_frame, on_a_stream])
def test_requests_of_a_forecast_call_by_what_they_ask_for(
    seen: Seen, send: Callable[[Seen, Sequence[pb.ForecastRequest]], None]
) -> None:
    send(
        seen,
        [
            request("a", 1.0, request_id="1"),
            request("a", 2.0, horizon=2, request_id="2"),
            request("a", horizon=2, request_id="3"),
            request("a", request_id="4"),
            request("a", 2.0, horizon=2, request_id="2"),  # a repeated request counts, too
            request("a", 1.0, horizon=2000, request_id="5"),
            request("", 1.0, request_id="6"),
            pb.ForecastRequest(session_id="none", horizon=1, request_id="7"),
        ],
    )
    assert seen.counts() == {
        ("observe", "OK", ""): 1,
        ("step", "OK", ""): 2,
        ("forecast", "OK", ""): 1,
        ("look", "OK", ""): 1,
        ("step", "INVALID_ARGUMENT", "INVALID_FIELD"): 1,
        ("observe", "INVALID_ARGUMENT", "INVALID_FIELD"): 1,
        ("forecast", "NOT_FOUND", "SESSION_NOT_FOUND"): 1,
    }
    assert seen.timed() == {"observe": 2, "step": 3, "forecast": 2, "look": 1}


def test_the_other_methods_each_by_their_own_name(seen: Seen) -> None:
    seen.forecasts.OpenSession(pb.OpenSessionRequest(session_id="a", options=OPEN))
    seen.forecasts.GetSession(pb.GetSessionRequest(session_id="a"))
    seen.forecasts.ListSessions(pb.ListSessionsRequest())
    seen.forecasts.ForkSession(pb.ForkSessionRequest(source_session_id="a", session_id="b"))
    attempt(lambda: seen.forecasts.ForkSession(pb.ForkSessionRequest(source_session_id="a", session_id="b")))
    seen.forecasts.CloseSession(pb.CloseSessionRequest(session_id="a"))
    attempt(lambda: seen.forecasts.GetSession(pb.GetSessionRequest(session_id="a")))
    seen.models.ListModels(model_service_pb2.ListModelsRequest())
    attempt(lambda: seen.models.GetModel(model_service_pb2.GetModelRequest(name="none")))
    assert seen.counts() == {
        ("open", "OK", ""): 1,
        ("get", "OK", ""): 1,
        ("list", "OK", ""): 1,
        ("fork", "OK", ""): 1,
        ("fork", "ALREADY_EXISTS", "SESSION_EXISTS"): 1,
        ("close", "OK", ""): 1,
        ("get", "NOT_FOUND", "SESSION_CLOSED"): 1,
        ("list_models", "OK", ""): 1,
        ("get_model", "NOT_FOUND", "MODEL_NOT_FOUND"): 1,
    }


def test_an_export_is_one_request_and_an_import_one_for_each_session(seen: Seen) -> None:
    for name in "ab":
        seen.forecasts.OpenSession(pb.OpenSessionRequest(session_id=name, options=OPEN))
    messages = list(seen.admin.ExportSessions(admin.ExportSessionsRequest()))
    exported = [each for message in messages for each in message.sessions]
    seen.forecasts.CloseSession(pb.CloseSessionRequest(session_id="a"))
    changed = [*exported, admin.ExportedSession(session_id="c")]
    list(seen.admin.ImportSessions(iter([admin.ImportSessionsRequest(sessions=changed)])))
    attempt(lambda: list(seen.admin.ExportSessions(admin.ExportSessionsRequest(page_token="?"))))
    assert seen.counts() - Counter({("open", "OK", ""): 2, ("close", "OK", ""): 1}) == {
        ("export", "OK", ""): 1,
        ("export", "INVALID_ARGUMENT", "INVALID_FIELD"): 1,
        ("import", "OK", ""): 2,
        ("import", "INVALID_ARGUMENT", "INVALID_FIELD"): 1,
    }
    rpcs = {
        sample.labels["grpc_method"]: sample.labels["grpc_type"] for sample in seen.samples("grpc_server_started_total")
    }
    assert (rpcs["ExportSessions"], rpcs["ImportSessions"]) == ("server_stream", "bidi_stream")


def test_what_cannot_be_read_is_unknown(seen: Seen) -> None:
    for method in ("Forecast", "ForecastMany", "GetSession"):
        unary: Any = seen.channel.unary_unary(FORECASTS + method)
        attempt(partial(unary, b"\xff\xff"))
    too_many = pb.ForecastManyRequest(requests=[pb.ForecastRequest()] * 4097)
    attempt(lambda: seen.forecasts.ForecastMany(too_many))
    stream: Any = seen.channel.stream_stream(FORECASTS + "ForecastStream")
    attempt(lambda: list(stream(iter([b"\xff\xff"]))))
    await_true(lambda: sum(seen.counts().values()) == 5)
    assert seen.counts() == {("unknown", "INVALID_ARGUMENT", "INVALID_FIELD"): 5}


@pytest.mark.parametrize("send", [alone, in_a_frame, on_a_stream])
def test_a_total_outage_of_redis_shows(
    seen: Seen, own_redis: RedisProcess, send: Callable[[Seen, Sequence[pb.ForecastRequest]], None]
) -> None:
    own_redis.kill()
    send(seen, [request(name, 1.0, request_id=name) for name in "abcdef"])
    assert seen.counts() == {("observe", "UNAVAILABLE", "STORE_UNREACHABLE"): 6}


@pytest.mark.parametrize("seen", ["grpc", "envoy"], indirect=True)
@pytest.mark.parametrize("kind", ["unary", "frame", "stream"])
async def test_those_whose_caller_has_gone_are_cancelled(seen: Seen, own_redis: RedisProcess, kind: str) -> None:
    own_redis.pause()
    asked = [request(name, 1.0, request_id=name) for name in "abc"]
    async with grpc.aio.insecure_channel(seen.server.target) as channel:
        stub: Any = ForecastServiceStub(channel)
        if kind == "unary":
            calls = [stub.Forecast(each) for each in asked]
        elif kind == "frame":
            calls = [stub.ForecastMany(pb.ForecastManyRequest(requests=asked))]
        else:
            calls = [stub.ForecastStream()]
            await calls[0].write(pb.ForecastStreamRequest(requests=asked))
        started = partial(seen.samples, "grpc_server_started_total")
        await asyncio.to_thread(await_true, lambda: sum(each.value for each in started()) == len(calls))
        await asyncio.sleep(0.2)
        for call in calls:
            call.cancel()
        await asyncio.sleep(0.2)
        await asyncio.to_thread(await_true, lambda: sum(seen.counts().values()) == 3)
    assert seen.counts() == {("observe", "CANCELLED", ""): 3}
    own_redis.resume()
