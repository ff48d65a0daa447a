"""Which spans there are of calls, requests and batches, with a real engine and without a server."""

import time
from concurrent.futures import wait
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from support.calls import PlainCall
from support.engines import MakeEngine, observe

from statecast.service.engine.request import Request, Result, Ticket
from statecast.service.engine.scheduler import Batch, BatchLimits, Scheduler
from statecast.service.engine.threads import Delivery, EngineThreads
from statecast.service.metrics import Metrics
from statecast.service.tracing import spans as tracing
from statecast.service.tracing.spans import MAX_LINKS, MAX_REQUESTS, CallTrace, Spans
from statecast.v1 import forecast_service_pb2 as pb

FORECAST = "statecast.v1.ForecastService/Forecast"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class OnlyOne(Sampler):
    """Chooses the first span of all."""

    def __init__(self) -> None:
        self._next: Sampler = ALWAYS_ON

    def should_sample(self, *arguments: Any, **others: Any) -> SamplingResult:
        now, self._next = self._next, ALWAYS_OFF
        return now.should_sample(*arguments, **others)

    def get_description(self) -> str:
        return "OnlyOne"


class Kept:
    """Spans that are kept in memory."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.spans = Spans([SimpleSpanProcessor(self.exporter)], Resource({}), sampler)

    def begin(self, parent: str | None = None, *, has_many: bool = False) -> CallTrace | None:
        return self.spans.begin(FORECAST, PlainCall(parent=parent), has_many=has_many)

    def call(self, *, has_many: bool = False) -> CallTrace:
        call = self.begin(has_many=has_many)
        assert call is not None
        return call

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.exporter.get_finished_spans()]


def carry_out(kept: Kept, requests: list[Request], make_engine: MakeEngine) -> list[Result]:
    """Carry out requests in one batch."""
    results: list[Result] = []
    scheduler = Scheduler(BatchLimits())
    ticket = Ticket("", lambda answered: results.extend(result for _, result in answered), lambda: False)
    scheduler.submit(ticket, requests)
    engines = [make_engine()]

    def deliver(delivery: Delivery) -> None:
        for each, answered in delivery.items():
            each.deliver(answered)

    threads = EngineThreads(scheduler, engines, Metrics(), deliver, kept.spans.observe).start()
    scheduler.close()
    done, _ = wait(threads, timeout=30)
    assert not any(thread.exception() for thread in done)
    return results


@pytest.mark.parametrize(
    ("parent", "is_sampled"),
    [(f"00-{TRACE}-00f067aa0ba902b7-01", True), (f"00-{TRACE}-00f067aa0ba902b7-00", False), ("nonsense", True)],
)
def test_the_caller_decides_unless_it_says_nothing(parent: str, is_sampled: bool) -> None:
    call = Kept().begin(parent)
    assert (call is not None) is is_sampled
    if call is not None:
        assert (call.trace_id == TRACE) is (parent != "nonsense")


@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_any_other_header_is_as_good_as_none(parent: str) -> None:
    kept = Kept()
    call = kept.begin(parent)
    assert call is not None
    call.end("OK", "", "acme")
    assert kept.named(FORECAST)[0].parent is None


def test_a_propagator_that_fails_fails_no_call(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(PlainCall):
        def header(self, name: str) -> str | None:
            raise KeyError(name)

    assert Kept().spans.begin(FORECAST, Broken(), has_many=False) is None
    assert "a call could not be traced" in caplog.text


def test_what_the_sampler_leaves_out_costs_no_span() -> None:
    kept = Kept(ALWAYS_OFF)
    assert kept.begin() is None
    assert not kept.names


def test_parts_of_a_sampled_call_are_always_there(make_engine: MakeEngine) -> None:
    """Even a batch, whose span has no parent to be sampled with: here the sampler would choose one trace in many."""
    kept = Kept(OnlyOne())
    call, request = kept.call(), observe("a", 1.0)
    call.follow(request)
    carry_out(kept, [request, observe("b", 1.0)], make_engine)
    call.end("OK", "", "acme")
    assert sorted(kept.names) == sorted(["batch", "queue", "load", "advance", "commit", FORECAST])
    (batch,) = kept.named("batch")
    assert batch.attributes is not None
    assert (batch.attributes["statecast.batch.requests"], batch.attributes["statecast.batch.sessions"]) == (2, 2)
    (span,) = kept.named(FORECAST)
    assert [link.context for link in batch.links] == [span.context]


def test_a_batch_without_traced_requests_has_no_span(make_engine: MakeEngine) -> None:
    kept = Kept()
    carry_out(kept, [observe("a", 1.0)], make_engine)
    assert not kept.names


def test_a_batch_names_its_first_requests(make_engine: MakeEngine) -> None:
    kept = Kept()
    calls = [kept.call() for _ in range(MAX_LINKS + 5)]
    requests = [observe(f"s{number}", 1.0) for number in range(len(calls))]
    for call, request in zip(calls, requests, strict=True):
        call.follow(request)
    carry_out(kept, requests, make_engine)
    for call in calls:
        call.end("OK", "", "acme")
    (batch,) = kept.named("batch")
    assert len(batch.links) == MAX_LINKS
    assert all(span.links[0].context == batch.context for span in kept.named(FORECAST))
    assert len(kept.named("advance")) == len(calls)


def test_another_attempt_shows_again(make_engine: MakeEngine) -> None:
    """Another replica has moved the session on, so that the first commit is refused."""
    kept = Kept()
    engines = [make_engine(), make_engine()]
    for engine in (*engines, engines[0]):
        engine.run({"a": [observe("a", 1.0)]})
    call, request = kept.call(), observe("a", 1.0)
    call.follow(request)
    batch = Batch({"a": [request]})
    engines[1].run({"a": [request]})
    kept.spans.observe(batch, engines[1].times.phases)
    call.end("OK", "", "acme")
    phases = [span.name for span in kept.exporter.get_finished_spans() if span.parent is not None]
    assert phases == ["queue", *["load", "advance", "commit"] * 2]


def test_only_some_requests_of_a_call_are_traced_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "PERIOD_SECONDS", 0.2)
    kept = Kept()
    call = kept.call(has_many=True)
    message = pb.ForecastRequest(session_id="")
    for _ in range(MAX_REQUESTS + 3):
        call.settled("look", "INVALID_ARGUMENT", "INVALID_FIELD", message)
    assert len(kept.named("look")) == MAX_REQUESTS
    request = observe("a", 1.0)
    call.follow(request, "observe")
    assert request.trace is None
    call.settled("observe", "OK", "", request)
    assert not kept.named("observe")
    time.sleep(0.2)
    call.follow(request, "observe")
    call.settled("observe", "OK", "", request)
    assert len(kept.named("observe")) == 1


def test_a_request_that_never_reached_a_batch_has_only_waited() -> None:
    kept = Kept()
    call, request = kept.call(), observe("a", 1.0)
    call.follow(request)
    call.end("CANCELLED", "", "acme")
    assert kept.names == ["queue", FORECAST]


def test_a_bug_in_tracing_fails_no_batch(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    call, request = kept.call(), observe("a", 1.0)
    call.follow(request)
    batch = Batch({"a": [request]})
    batch.taken_at = None  # type: ignore[assignment]
    kept.spans.observe(batch, ())
    assert "a batch could not be traced" in caplog.text
