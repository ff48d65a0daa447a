"""The benchmark of traces: what the server is told, and a collector that takes its spans."""

from bench.tracing import collector, environment
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult


def test_without_a_share_nothing_is_traced() -> None:
    assert environment("http://127.0.0.1:1", None) == {}
    assert environment("http://127.0.0.1:1", "0.01")["OTEL_TRACES_SAMPLER_ARG"] == "0.01"


def test_the_collector_takes_spans() -> None:
    with collector() as endpoint:
        exporter = OTLPSpanExporter(endpoint)
        assert exporter.export(()) is SpanExportResult.SUCCESS
        exporter.shutdown()
