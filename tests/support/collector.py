"""A collector of OpenTelemetry: takes spans over OTLP and keeps them."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support import await_true

SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
"""Variables that make a server export its spans at once."""


class Collector(TraceServiceServicer):
    """Keeps the spans of all exporters, and what they say about their process."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}

    def Export(self, request: pb.ExportTraceServiceRequest, context: Any) -> pb.ExportTraceServiceResponse:  # noqa: N802
        for resource in request.resource_spans:
            self.resource = attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return pb.ExportTraceServiceResponse()

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that make a server export to it."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, **SOON}

    def named(self, name: str, count: int = 1) -> list[Span]:
        """Wait until so many spans of that name have come, and return all of them."""
        await_true(lambda: len(self.having(name)) >= count)
        return self.having(name)

    def one(self, name: str) -> Span:
        """Wait for the only span of that name."""
        (span,) = self.named(name)
        return span

    def having(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def below(self, parent: Span) -> list[Span]:
        """Return the children of a span by their start."""
        children = [span for span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(children, key=lambda span: span.start_time_unix_nano)


def attributes(pairs: "Any | list[KeyValue]") -> dict[str, str]:
    """Return the attributes that are texts."""
    return {pair.key: pair.value.string_value for pair in pairs}


def about(span: Span) -> dict[str, str]:
    """Return the attributes of a span that are texts."""
    return attributes(span.attributes)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    collector = Collector(f"http://127.0.0.1:{port}")
    add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    server.start()
    try:
        yield collector
    finally:
        server.stop(None)
