"""Traces of whole servers over both transports, as a collector gets them."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from support import await_true
from support.collector import Collector, about
from support.redis_process import RedisProcess
from support.servers import ServerProcess
from support.wire import OPEN, failure, observations

from statecast.service.access import api_keys
from statecast.service.tracing.spans import MAX_REQUESTS
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
FORECAST = "statecast.v1.ForecastService/Forecast"
MANY, STREAM = "statecast.v1.ForecastService/ForecastMany", "statecast.v1.ForecastService/ForecastStream"
PHASES = ["queue", "load", "advance", "commit"]
VALUE = 987654.25


class Traced:
    """A server with API keys whose spans go to a collector."""

    def __init__(self, redis: RedisProcess, models: Path, folder: Path, transport: str, collector: Collector) -> None:
        self.key_id, self.key = api_keys.create(folder / "keys.json", "acme", "write")
        options = ("--redis-url", redis.url, "--namespace", folder.name, "--api-keys", str(folder / "keys.json"))
        others = ("--models", str(models), "--transport", transport, "--log-format", "json")
        self.server = ServerProcess(*options, *others, environment=collector.environment)
        self.channel = grpc.insecure_channel(self.server.target)
        self.stub = ForecastServiceStub(self.channel)

    def headers(self, traceparent: str = SAMPLED, **others: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.key}"), ("traceparent", traceparent), *others.items())

    def stop(self) -> None:
        self.channel.close()
        self.server.stop()


@pytest.fixture(params=["grpc", "envoy"])
def traced(
    request: pytest.FixtureRequest, any_redis: RedisProcess, models_folder: Path, tmp_path: Path, collector: Collector
) -> Iterator[Traced]:
    traced = Traced(any_redis, models_folder, tmp_path, request.param, collector)
    yield traced
    traced.stop()


@pytest.fixture
def over_grpcio(any_redis: RedisProcess, models_folder: Path, tmp_path: Path, collector: Collector) -> Iterator[Traced]:
    """For what does not depend on the transport."""
    traced = Traced(any_redis, models_folder, tmp_path, "grpc", collector)
    yield traced
    traced.stop()


def step(session_id: str, *values: float, **others: Any) -> pb.ForecastRequest:
    return pb.ForecastRequest(
        session_id=session_id, open=OPEN, observations=observations(*values), horizon=1, request_id="r-17", **others
    )


def check_nesting(collector: Collector, parent: Span) -> None:
    """Check that the spans below lie within their parent's time, and those of a request follow one another."""
    children = collector.below(parent)
    for child in children:
        assert child.trace_id == parent.trace_id
        assert parent.start_time_unix_nano <= child.start_time_unix_nano <= child.end_time_unix_nano
        assert child.end_time_unix_nano <= parent.end_time_unix_nano
        check_nesting(collector, child)
    if [child.name for child in children] == PHASES:
        for earlier, later in itertools.pairwise(children):
            assert earlier.end_time_unix_nano <= later.start_time_unix_nano


def test_a_call_goes_on_with_its_callers_trace(traced: Traced, collector: Collector) -> None:
    before = time.time_ns()
    traced.stub.Forecast(step("s", 1, 2, 3), metadata=traced.headers(tracestate="vendor=7"))
    span = collector.one(FORECAST)
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, PARENT, "vendor=7")
    assert span.kind == Span.SPAN_KIND_SERVER
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert about(span) == {
        "rpc.system.name": "grpc",
        "rpc.method": FORECAST,
        "rpc.response.status_code": "OK",
        "statecast.kind": "step",
        "statecast.session.id": "s",
        "statecast.tenant": "acme",
    }
    assert [child.name for child in collector.below(span)] == PHASES
    check_nesting(collector, span)
    assert before < span.start_time_unix_nano < span.end_time_unix_nano < time.time_ns()
    assert collector.resource["service.name"] == "statecast"


def test_batches_and_their_requests_are_linked(over_grpcio: Traced, collector: Collector) -> None:
    over_grpcio.stub.Forecast(step("s", 1), metadata=over_grpcio.headers())
    span, batch = collector.one(FORECAST), collector.one("batch")
    assert [(link.trace_id, link.span_id) for link in span.links] == [(batch.trace_id, batch.span_id)]
    assert [(link.trace_id, link.span_id) for link in batch.links] == [(span.trace_id, span.span_id)]
    assert not batch.parent_span_id
    assert batch.trace_id != span.trace_id
    load, commit = collector.below(span)[1], collector.below(span)[3]
    assert batch.start_time_unix_nano <= load.start_time_unix_nano + 1_000_000
    assert commit.end_time_unix_nano <= batch.end_time_unix_nano + 1_000_000


def test_each_request_of_a_frame_has_a_span(over_grpcio: Traced, collector: Collector) -> None:
    wrong = pb.ForecastRequest(session_id="")
    none = pb.ForecastRequest(session_id="none", horizon=1)
    message = pb.ForecastManyRequest(requests=[step("a", 1), step("b", 1), none, wrong])
    over_grpcio.stub.ForecastMany(message, metadata=over_grpcio.headers())
    call = collector.one(MANY)
    check_nesting(collector, call)
    requests = {about(span).get("statecast.session.id", ""): span for span in collector.below(call)}
    assert requests.keys() == {"a", "b", "none", ""}
    assert {span.kind for span in requests.values()} == {Span.SPAN_KIND_INTERNAL}
    assert [requests[name].name for name in ("a", "none", "")] == ["step", "forecast", "look"]
    assert [child.name for child in collector.below(requests["a"])] == PHASES
    assert about(requests["none"])["statecast.reason"] == "SESSION_NOT_FOUND"
    assert about(requests[""])["error.type"] == "INVALID_FIELD"
    assert not collector.below(requests[""])
    batch = collector.one("batch")
    queued = {requests[name].span_id for name in ("a", "b", "none")}
    assert {link.span_id for link in batch.links} == queued
    assert "statecast.session.id" not in about(call)


def test_a_stream_is_one_span_and_shows_some_of_its_requests(traced: Traced, collector: Collector) -> None:
    frames = [pb.ForecastStreamRequest(requests=[step(f"s{n}", 1) for n in range(MAX_REQUESTS + 9)])]
    answers = list(traced.stub.ForecastStream(iter(frames), metadata=traced.headers()))
    assert sum(len(answer.results) for answer in answers) == MAX_REQUESTS + 9
    call = collector.one(STREAM)
    assert (call.trace_id.hex(), call.parent_span_id.hex()) == (TRACE, PARENT)
    assert about(call)["rpc.response.status_code"] == "OK"
    assert len(collector.named("step")) == MAX_REQUESTS
    check_nesting(collector, call)


def test_errors_show_with_their_reason_and_without_their_message(traced: Traced, collector: Collector) -> None:
    failure(lambda: traced.stub.Forecast(pb.ForecastRequest(session_id="none"), metadata=traced.headers()))
    failure(lambda: traced.stub.GetSession(pb.GetSessionRequest(session_id="none"), metadata=traced.headers()))
    failure(lambda: traced.stub.CloseSession(pb.CloseSessionRequest(session_id="none"), timeout=5, metadata=()))
    for name in ("Forecast", "GetSession"):
        span = collector.one(f"statecast.v1.ForecastService/{name}")
        told = about(span)
        assert (told["rpc.response.status_code"], told["error.type"]) == ("NOT_FOUND", "SESSION_NOT_FOUND")
        assert span.status.code == Status.STATUS_CODE_UNSET  # the caller's fault
        assert "queue" in [child.name for child in collector.below(span)]
    refused = about(collector.one("statecast.v1.ForecastService/CloseSession"))
    assert (refused["rpc.response.status_code"], refused["statecast.reason"]) == (
        "UNAUTHENTICATED", "CREDENTIAL_MISSING",
    )  # fmt: skip
    assert "statecast.tenant" not in refused


def test_a_deadline_that_passes_is_the_servers_fault(over_grpcio: Traced, collector: Collector) -> None:
    request = step("s", 1)
    request.timeout.nanos = 1
    code, _ = failure(lambda: over_grpcio.stub.Forecast(request, metadata=over_grpcio.headers()))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    span = collector.one(FORECAST)
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "DEADLINE_PASSED")
    assert [child.name for child in collector.below(span)] == ["queue"]
    assert not collector.having("batch")


def test_what_the_caller_did_not_sample_is_not_traced(over_grpcio: Traced, collector: Collector) -> None:
    over_grpcio.stub.Forecast(step("quiet", 1), metadata=over_grpcio.headers(UNSAMPLED))
    over_grpcio.stub.Forecast(step("s", 1), metadata=over_grpcio.headers())
    collector.one(FORECAST)
    assert len(collector.having("batch")) == 1


def test_the_log_names_the_trace(traced: Traced, collector: Collector) -> None:
    """Without a header, it is the one that the server has begun."""
    alone = traced.headers()[:1]
    failure(lambda: traced.stub.Forecast(pb.ForecastRequest(session_id="none"), metadata=alone))
    failure(lambda: traced.stub.Forecast(pb.ForecastRequest(session_id="none"), metadata=traced.headers(UNSAMPLED)))
    span = collector.one(FORECAST)
    await_true(lambda: traced.server.log.count("request failed") == 2)
    lines = [line for line in traced.server.log.splitlines() if "request failed" in line]
    assert f'"trace_id": "{span.trace_id.hex()}"' in lines[0]
    assert f'"trace_id": "{TRACE}"' in lines[1]


def test_no_secret_and_no_value_is_in_a_span(traced: Traced, collector: Collector) -> None:
    headers = traced.headers(baggage="user=confidential")
    traced.stub.Forecast(step("s", VALUE), metadata=headers)
    failure(lambda: traced.stub.Forecast(step("s", 8.7654321e30), metadata=headers))
    wrong = (("authorization", f"Bearer {'x' * 43}"), ("traceparent", SAMPLED))
    failure(lambda: traced.stub.Forecast(step("s", 1), metadata=wrong))
    traced.stub.ForecastMany(pb.ForecastManyRequest(requests=[step("t", 8.7654321e30)]), metadata=headers)
    collector.named(FORECAST, 3)
    collector.one(MANY)
    told = "".join(map(str, collector.spans)) + str(collector.resource)
    for secret in (traced.key, traced.key.rpartition("_")[2], "x" * 43, "confidential", "r-17", "987654", "8.765"):
        assert secret not in told
