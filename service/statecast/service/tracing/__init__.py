"""Traces of calls by OpenTelemetry, an optional extra: setup.py reads the OTEL_ variables, spans.py makes the spans."""
