"""Sets tracing up as OpenTelemetry's standard variables say."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

EXPORT_SECONDS = 5.0
"""At shutdown, longest time to export the last spans."""
COMPLAINT_SECONDS = 60.0
"""OpenTelemetry logs each complaint at most so often, such as that no collector answers."""
DISABLED, EXPORTERS = "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"
ENDPOINTS = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOLS = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
SERVICE = "statecast"
OTLP = {"": "otlp_proto_grpc", "grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
"""Names of the exporters for OTLP's protocols."""
GROUP = "opentelemetry_traces_exporter"
"""Entry points of exporters."""


class Tracing:
    """The spans of a server, and the exporters that send them on."""

    def __init__(self, exporters: "Sequence[SpanExporter]", resource: "Resource") -> None:
        """Export in the background; the variables OTEL_BSP_... limit what waits, OTEL_TRACES_SAMPLER... chooses."""
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from statecast.service.tracing.spans import Spans

        self._exporters = exporters
        self._processors = [BatchSpanProcessor(exporter) for exporter in exporters]
        self._complaints = _Seldom()
        self.spans = Spans(self._processors, resource)

    async def stop(self, seconds: float) -> None:
        """Export the last spans within so many seconds; the others are lost."""
        patience = min(seconds, EXPORT_SECONDS)
        ending = threading.Thread(target=self._export_all, name="tracing-end", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, patience)
        if ending.is_alive():
            log.warning(
                "the last spans could not be exported within %g s and are lost; check %s", patience, ENDPOINTS[1]
            )
            self._complaints.silence()
            for exporter in self._exporters:
                await asyncio.to_thread(exporter.shutdown)

    def _export_all(self) -> None:
        for processor in self._processors:
            processor.shutdown()  # type: ignore[no-untyped-call]


def from_environment(variables: Mapping[str, str] = os.environ) -> Tracing | None:
    """Return the tracing that the variables ask for; None if they ask for none, or it cannot be had.

    As OpenTelemetry demands, a variable that is wrong does not keep the server from starting; the log says why.
    """
    if not is_asked(variables):
        return None
    try:
        if find_spec("opentelemetry.sdk") is None:
            raise ModuleNotFoundError
    except ModuleNotFoundError:
        log.error(
            "no traces: OTEL_ variables ask for them, and OpenTelemetry is not installed; it is the extra 'tracing'"
        )
        return None
    try:
        tracing = Tracing([_exporter(name) for name in _names(variables)], _resource())
    except Exception as error:
        log.error("no traces: %s; correct the OTEL_ variables, or set %s=true", str(error) or repr(error), DISABLED)
        return None
    log.info("traces are exported by %s", variables.get(EXPORTERS) or "otlp")
    return tracing


def is_asked(variables: Mapping[str, str]) -> bool:
    """Return whether the variables ask for traces: they name an exporter or an endpoint, and do not disable all."""
    if variables.get(DISABLED, "").strip().lower() == "true":
        return False
    if exporters := variables.get(EXPORTERS, "").strip():
        return exporters.lower() != "none"
    return any(variables.get(each) for each in ENDPOINTS)


def _names(variables: Mapping[str, str]) -> list[str]:
    """Return the names of the exporters, for each protocol its own."""
    names = [name.strip() for name in (variables.get(EXPORTERS) or "otlp").split(",")]
    protocol = next((value.strip() for each in PROTOCOLS if (value := variables.get(each))), "")
    if "otlp" in names and protocol not in OTLP:
        raise ValueError(f"{PROTOCOLS[1]}: {protocol!r} is not grpc or http/protobuf")
    return [OTLP[protocol] if name == "otlp" else name for name in names]


def _exporter(name: str) -> "SpanExporter":
    for found in metadata.entry_points(group=GROUP, name=name):
        make: Any = found.load()
        made: SpanExporter = make()
        return made
    package = "opentelemetry-exporter-" + name.replace("_", "-")
    raise ValueError(f"the exporter {name!r} is not installed; install its package, such as {package}")


def _resource() -> "Resource":
    """Return what describes this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    own = {"service.name": SERVICE, "service.version": metadata.version("statecast")}
    return Resource.create({**own, **OTELResourceDetector().detect().attributes})


class _Seldom(logging.Filter):
    """Lets each message of OpenTelemetry's loggers pass once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_at: dict[str, float] = {}
        self._is_silent = False
        for name in tuple(logging.Logger.manager.loggerDict):
            if name.startswith("opentelemetry."):
                logging.getLogger(name).addFilter(self)

    def silence(self) -> None:
        """Let nothing pass any more."""
        self._is_silent = True

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the message may be logged now."""
        now, kind = time.monotonic(), str(record.msg)
        if self._is_silent or now - self._logged_at.get(kind, -COMPLAINT_SECONDS) < COMPLAINT_SECONDS:
            return False
        self._logged_at[kind] = now
        return True
