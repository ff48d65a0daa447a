"""Spans of calls, of the requests in them and of the engine's batches.

A span exists only for what the sampler has chosen, so all else costs one decision a call. The engine's threads only
note times: the event loop makes the spans of a request once it has been answered.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer, set_span_in_context

from statecast.service.engine.batch_times import Phase
from statecast.service.engine.request import Request
from statecast.service.engine.scheduler import Batch
from statecast.service.log import shortened

log = logging.getLogger(__name__)

SCOPE = "statecast.service"
MAX_REQUESTS = 64
PERIOD_SECONDS = 10.0
"""So many requests of one call, in a frame or on a stream, get a span in a period; the others have none."""
MAX_LINKS = 128
"""Links of a batch's span: to the first requests in it."""
LONGEST_NAME = 64
SERVER_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""Codes that mark a server's span as failed: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/."""
_SYSTEM, _METHOD, _STATUS, _ERROR = "rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type"
_TENANT, _SESSION, _KIND, _REASON = "statecast.tenant", "statecast.session.id", "statecast.kind", "statecast.reason"


class HasHeaders(Protocol):
    """A call whose headers may hold the caller's trace context."""

    def header(self, name: str) -> str | None:
        """Return a header by its lower-case name; None without it."""


class _Headers(Getter[HasHeaders]):
    """Reads a call's headers for the propagators."""

    def get(self, carrier: HasHeaders, key: str) -> list[str] | None:
        """Return the header's value."""
        value = carrier.header(key.lower())
        return None if value is None else [value]

    def keys(self, carrier: HasHeaders) -> list[str]:
        """Return no names: propagators ask for theirs."""
        return []


_HEADERS = _Headers()


class Spans:
    """Makes spans of calls, for use in the event loop, and of batches, for use in the engine's threads."""

    def __init__(self, processors: Sequence[SpanProcessor], resource: Resource, sampler: Sampler | None = None) -> None:
        """Pass ended spans to `processors`; without a sampler, the variables OTEL_TRACES_SAMPLER... choose one."""
        self._calls = _tracer(processors, resource, sampler)
        self._parts = _tracer(processors, resource, ALWAYS_ON)  # of what the first has chosen

    def begin(self, path: str, call: HasHeaders, *, has_many: bool) -> "CallTrace | None":
        """Begin the span of a call that arrives; return None if it is not sampled. Fails no call if it fails.

        Args:
            path: The method's service and name, with a slash between them.
            call: The call, whose headers may name the caller's span.
            has_many: True if each of its requests has a span of its own.
        """
        try:
            return self._begin(path, call, has_many=has_many)
        except Exception:  # a propagator or a sampler that is not ours
            log.exception("a call could not be traced")
            return None

    def _begin(self, method: str, call: HasHeaders, *, has_many: bool) -> "CallTrace | None":
        span = self._calls.start_span(
            method,
            extract(call, Context(), _HEADERS),
            SpanKind.SERVER,
            {_SYSTEM: "grpc", _METHOD: method},
        )
        return CallTrace(self._parts, span, has_many=has_many) if span.is_recording() else None

    def observe(self, batch: Batch, phases: Sequence[Phase]) -> None:
        """Take note of a batch, if it has requests with a trace, and make its span. Fails nothing if it fails."""
        try:
            self._observe(batch, phases)
        except Exception:
            log.exception("a batch could not be traced")

    def _observe(self, batch: Batch, phases: Sequence[Phase]) -> None:
        for request in batch.late:
            if isinstance(late := request.trace, RequestTrace):
                late.taken_at = batch.taken_at
        requests = [request for asked in batch.sessions.values() for request in asked]
        traced = [trace for request in requests if isinstance(trace := request.trace, RequestTrace)]
        if not traced:
            return
        clock = _Clock()
        span = self._parts.start_span(
            "batch",
            Context(),
            attributes={
                "statecast.batch.requests": len(requests),
                "statecast.batch.sessions": len(batch.sessions),
                "statecast.batch.is_full": batch.is_full,
            },
            links=[Link(trace.context) for trace in traced[:MAX_LINKS]],
            start_time=clock.at(batch.taken_at),
        )
        span.end(clock.now())
        for trace in traced:
            trace.taken_at, trace.phases, trace.batch = batch.taken_at, phases, span.get_span_context()


class CallTrace:
    """The span of a sampled call."""

    def __init__(self, tracer: Tracer, span: Span, *, has_many: bool) -> None:
        self._tracer, self._span, self._has_many = tracer, span, has_many
        self._clock = _Clock()
        self._alone: list[RequestTrace] = []
        self._period_ends, self._left = 0.0, 0

    @property
    def trace_id(self) -> str:
        """The id of the trace, 32 hexadecimal digits."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def follow(self, request: Request, kind: str = "") -> None:
        """Trace a request that is about to be queued; one of many gets a span that is named after its `kind`."""
        if not self._has_many:
            request.trace = trace = RequestTrace(self._span)
            self._alone.append(trace)
        elif self._may_follow():
            now = self._clock.now()
            request.trace = RequestTrace(self._tracer.start_span(kind, self._context, start_time=now))

    def settled(self, kind: str, code: str, reason: str, asked: object) -> None:
        """Take note that a request has ended; `asked` is its message or the engine's request."""
        about = {_KIND: kind}
        if session_id := getattr(asked, "session_id", ""):
            about[_SESSION] = shortened(session_id, LONGEST_NAME)
        if not self._has_many:
            self._span.set_attributes(about)
            return
        trace = asked.trace if isinstance(asked, Request) else None
        if isinstance(trace, RequestTrace):
            trace.finish(self._tracer, self._clock)
            _end(trace.span, about, code, reason, self._clock)
        elif not isinstance(asked, Request) and self._may_follow():  # it was refused before it could be queued
            now = self._clock.now()
            _end(self._tracer.start_span(kind, self._context, start_time=now), about, code, reason, self._clock)

    def end(self, code: str, reason: str, tenant: str) -> None:
        """End the call's span; the tenant is empty if the caller was not admitted."""
        for trace in self._alone:
            trace.finish(self._tracer, self._clock)
        about = {_STATUS: code, _TENANT: tenant} if tenant else {_STATUS: code}
        _end(self._span, about, code, reason, self._clock)

    @property
    def _context(self) -> Context:
        return set_span_in_context(self._span, Context())

    def _may_follow(self) -> bool:
        """Return whether another request of the call may have a span now; if so, count it."""
        if (now := time.monotonic()) >= self._period_ends:
            self._period_ends, self._left = now + PERIOD_SECONDS, MAX_REQUESTS
        self._left -= 1
        return self._left >= 0


class RequestTrace:
    """What happened to one of the engine's requests; an engine's thread fills it before the result is delivered."""

    __slots__ = ("batch", "phases", "queued_at", "span", "taken_at")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.queued_at = time.monotonic()
        self.taken_at: float | None = None
        self.phases: Sequence[Phase] = ()
        self.batch: SpanContext | None = None

    @property
    def context(self) -> SpanContext:
        """The span's place in its trace."""
        return self.span.get_span_context()

    def finish(self, tracer: Tracer, clock: "_Clock") -> None:
        """Make the spans of the queue and of the batch's phases, below the request's span."""
        parent = set_span_in_context(self.span, Context())
        until = time.monotonic() if self.taken_at is None else self.taken_at
        for name, start, end in (Phase("queue", self.queued_at, until), *self.phases):
            tracer.start_span(name, parent, start_time=clock.at(start)).end(clock.at(end))
        if self.batch is not None:
            self.span.add_link(self.batch)


class _Clock:
    """Times since 1970 in nanoseconds, by one offset to time.monotonic, so that all spans of a call nest."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def at(self, moment: float) -> int:
        """Return a moment by time.monotonic."""
        return round(moment * 1e9) + self._offset

    def now(self) -> int:
        """Return the present moment."""
        return time.monotonic_ns() + self._offset


def _tracer(processors: Sequence[SpanProcessor], resource: Resource, sampler: Sampler | None) -> Tracer:
    provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider.get_tracer(SCOPE)


def _end(span: Span, about: Mapping[str, str], code: str, reason: str, clock: _Clock) -> None:
    """End a span with the code and reason of what it stands for. Messages of errors are only in the log."""
    span.set_attributes(about)
    if code != "OK":
        span.set_attribute(_ERROR, reason or code)
        if reason:
            span.set_attribute(_REASON, reason)
    if code in SERVER_FAULTS:
        span.set_status(StatusCode.ERROR, reason or code)
    span.end(clock.now())
