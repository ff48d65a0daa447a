"""Spans of the client's calls, on their own and together with the server's."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from client.conftest import MakeClient
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from support.collector import Collector, collecting
from support.redis_process import RedisProcess
from support.servers import ServerThread

from statecast.client import AsyncClient, Client, NotFound, Unavailable
from statecast.client import _tracing as tracing
from statecast.client._calls import FORECAST
from statecast.service.settings import Settings

SERVICE = "statecast.v1.ForecastService/"


class Application:
    """An application that traces, with its spans in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(ParentBased(ALWAYS_ON), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def tracer(self) -> Tracer:
        return self.provider.get_tracer("application")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name.removeprefix(SERVICE) for span in self.spans]


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Application:
    application = Application()
    # The API lets a process set its provider only once.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", application.provider)
    return application


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.fixture
def traced(
    any_redis: RedisProcess, models_folder: Path, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ServerThread, Collector]]:
    """A server that exports its own spans."""
    with collecting() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        server = ServerThread(Settings(redis_url=any_redis.url, models=models_folder, namespace=session_id))
        yield server, collector
        server.stop()


def test_each_call_has_a_span_below_the_applications(application: Application, client: Any, session_id: str) -> None:
    session = client.session(session_id, model="tiny")
    with application.tracer.start_as_current_span("work") as work:
        session.step([1.0, 2.0], 3)
        session.info()
        session.close()
    assert application.names == ["Forecast", "GetSession", "GetSession", "CloseSession", "work"]
    for span in application.spans[:-1]:
        assert span.kind == SpanKind.CLIENT
        assert span.parent == work.get_span_context()
        assert about(span) == {
            "rpc.system.name": "grpc",
            "rpc.method": span.name,
            "rpc.response.status_code": "OK",
            "statecast.session.id": session_id,
        }


def test_a_span_without_the_applications_begins_a_trace(application: Application, client: Any) -> None:
    client.models()
    (span,) = application.spans
    assert span.parent is None


def test_an_error_shows_with_its_reason(application: Application, client: Any, session_id: str) -> None:
    with pytest.raises(NotFound):
        client.session(session_id, resume_only=True).step([1.0], 1)
    (span,) = application.spans
    told = about(span)
    assert (told["rpc.response.status_code"], told["error.type"]) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "SESSION_NOT_FOUND")


def test_each_attempt_is_a_span(application: Application, make_client: MakeClient) -> None:
    with pytest.raises(Unavailable):
        make_client("127.0.0.1:1", timeout_seconds=0.5).models()
    assert len(application.spans) >= 2
    for span in application.spans:
        assert about(span)["rpc.response.status_code"] == "UNAVAILABLE"
        assert span.status.status_code == StatusCode.ERROR


def test_the_servers_spans_go_on_with_the_clients(
    application: Application, make_client: MakeClient, traced: tuple[ServerThread, Collector]
) -> None:
    server, collector = traced
    client = make_client(server.target)
    with application.tracer.start_as_current_span("work"):
        client.session("a", model="tiny").step([1.0], 1)
        client.step_many([(client.session(name, model="tiny"), [1.0]) for name in "bc"], 1)
    for method in ("Forecast", "ForecastMany"):
        theirs = collector.one(SERVICE + method)
        (ours,) = [span for span in application.spans if span.name == SERVICE + method]
        assert ours.context is not None
        assert (theirs.trace_id, theirs.parent_span_id) == (
            ours.context.trace_id.to_bytes(16, "big"),
            ours.context.span_id.to_bytes(8, "big"),
        )
        assert ours.start_time is not None
        assert ours.end_time is not None
        assert ours.start_time <= theirs.start_time_unix_nano <= theirs.end_time_unix_nano <= ours.end_time
    alone = collector.one(SERVICE + "Forecast")
    assert [span.name for span in collector.below(alone)] == ["queue", "load", "advance", "commit"]


def test_what_the_application_does_not_sample_the_server_does_not_either(
    application: Application, make_client: MakeClient, traced: tuple[ServerThread, Collector]
) -> None:
    server, collector = traced
    client = make_client(server.target)
    quiet = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False).get_tracer("application")
    with quiet.start_as_current_span("work"):
        client.models()
        client.session("a", model="tiny").step([1.0], 1)
    client.close()
    server.stop()
    assert not application.spans
    # An AsyncClient's stream is no part of the application's work: the server's sampler decides about it.
    assert {span.name for span in collector.spans if span.parent_span_id} <= {
        "step",
        "queue",
        "load",
        "advance",
        "commit",
    }
    assert not [span for span in collector.spans if span.name.endswith(("/Forecast", "/ListModels"))]


async def test_sampled_requests_of_an_async_client_travel_alone(
    application: Application, traced: tuple[ServerThread, Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others share its stream, whose metadata cannot name the span of each."""
    server, collector = traced
    async with AsyncClient(server.target) as client:
        session = client.session("a", model="tiny")
        await session.step([1.0], 1)
        assert (await asyncio.to_thread(collector.one, SERVICE + "Forecast")).parent_span_id
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
        await session.step([1.0], 1)
    await asyncio.to_thread(collector.one, SERVICE + "ForecastStream")
    assert len(collector.having(SERVICE + "Forecast")) == 1


def test_a_stream_is_one_span(application: Application, traced: tuple[ServerThread, Collector]) -> None:
    server, collector = traced
    with Client(server.target) as client, application.tracer.start_as_current_span("work") as work:
        pairs = [(client.session(f"s{number}", model="tiny"), [1.0]) for number in range(5)]
        for _ in client.stream(pairs, horizon=1):
            assert trace.get_current_span() is work
    stream, _ = application.spans
    assert (stream.name, stream.parent) == (SERVICE + "ForecastStream", work.get_span_context())
    theirs = collector.one(SERVICE + "ForecastStream")
    assert stream.context is not None
    assert theirs.parent_span_id == stream.context.span_id.to_bytes(8, "big")
    assert len(collector.named("step", 5)) == 5


def test_a_stream_that_is_left_early_ends_its_span(application: Application, server: ServerThread) -> None:
    with Client(server.target) as client:
        pairs = ((client.session("left", model="tiny"), [1.0]) for _ in range(100))
        results = client.stream(pairs, horizon=1)
        next(iter(results))
        results.close()  # type: ignore[attr-defined]  # a generator
    assert application.names == ["ForecastStream"]
    assert about(application.spans[0])["rpc.response.status_code"] == "OK"


async def test_the_stream_of_an_async_client_has_no_spans(
    application: Application, server: ServerThread, session_id: str
) -> None:
    async with AsyncClient(server.target) as client:
        session = client.session(session_id, model="tiny")
        async for _ in client.stream([(session, [1.0])] * 3, horizon=1):
            pass
        assert not application.spans
        await session.step([1.0], 1)
    assert application.names == ["Forecast"]


def test_a_provider_may_come_after_the_client(client: Any, session_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = client.session(session_id, model="tiny")
    session.observe([1.0])
    application = Application()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", application.provider)
    session.observe([2.0])
    assert application.names == ["Forecast"]


def test_without_a_provider_nothing_begins() -> None:
    assert tracing.begin(FORECAST) is None


def test_the_client_does_not_import_the_api() -> None:
    code = """
import sys
from statecast.client import Client, StatecastError
try:
    Client("127.0.0.1:1", timeout_seconds=0.1).models()
except StatecastError:
    pass
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_credential_and_no_value_is_in_a_span(
    application: Application, make_client: MakeClient, server: ServerThread, session_id: str
) -> None:
    client = make_client(server.target, api_key="sck_secret")
    client.session(session_id, model="tiny").observe([987654.25])
    told = "".join(span.to_json() for span in application.spans)
    assert "secret" not in told
    assert "987654" not in told
