"""What the OTEL_ variables do, and what a collector that does not answer does to a server."""

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest
from support import await_true
from support.collector import SOON, Collector
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread
from support.wire import OPEN, observations

from statecast.service.settings import Settings
from statecast.service.tracing.setup import EXPORT_SECONDS, from_environment, is_asked
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def observe(target: str, times: int = 1) -> None:
    """Append to a session, each time within the client's usual patience."""
    with grpc.insecure_channel(target) as channel:
        stub = ForecastServiceStub(channel)
        for _ in range(times):
            request = pb.ForecastRequest(session_id="s", open=OPEN, observations=observations(1.0), horizon=1)
            stub.Forecast(request, timeout=10)


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "statecast", "OTEL_TRACES_SAMPLER": "always_on"}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4317"}, False),
        ({ENDPOINT: "http://collector:4317"}, True),
        ({ENDPOINT: ""}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "None", ENDPOINT: "http://collector:4317"}, False),
        ({"OTEL_SDK_DISABLED": "True", ENDPOINT: "http://collector:4317"}, False),
        ({"OTEL_SDK_DISABLED": "false", ENDPOINT: "http://collector:4317"}, True),
    ],
    ids=str,
)
def test_an_exporter_or_an_endpoint_asks_for_traces(variables: Mapping[str, str], asked: bool) -> None:
    assert is_asked(variables) is asked


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "the exporter 'zipkin' is not installed"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http"},
            "'http' is not grpc or http/protobuf",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TIMEOUT": "ten"}, "'ten'"),
    ],
    ids=str,
)
def test_a_wrong_variable_is_named_and_does_not_keep_the_server_from_starting(
    variables: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert from_environment() is None
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.message.startswith("no traces: ")
    assert complaint in record.message


def test_without_the_extra_the_log_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "opentelemetry.sdk", raising=False)
    assert from_environment({}) is None
    assert not caplog.records
    assert from_environment({ENDPOINT: "http://collector:4317"}) is None
    assert "it is the extra 'tracing'" in caplog.text


def test_the_variables_name_the_service_and_the_sampler(
    any_redis: RedisProcess, models_folder: Path, session_id: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"OTEL_SERVICE_NAME": "forecasts", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    for name, value in {**collector.environment, **variables, "OTEL_TRACES_SAMPLER": "always_off"}.items():
        monkeypatch.setenv(name, value)
    settings = Settings(redis_url=any_redis.url, models=models_folder, namespace=session_id)
    server = ServerThread(settings)
    observe(server.target)
    server.stop()
    assert not collector.spans
    monkeypatch.delenv("OTEL_TRACES_SAMPLER")
    server = ServerThread(settings)
    observe(server.target)
    server.stop()  # exports what is left
    assert len(collector.having("batch")) == 1
    assert collector.resource["service.name"] == "forecasts"
    assert collector.resource["deployment.environment.name"] == "test"
    assert collector.resource["service.version"]


@pytest.mark.parametrize("transport", ["grpc", "envoy"])
def test_a_collector_that_is_not_there_harms_nothing(
    transport: str, any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    options = ("--redis-url", any_redis.url, "--namespace", session_id, "--models", str(models_folder))
    environment = {ENDPOINT: f"http://127.0.0.1:{port}", **SOON}
    server = ServerProcess(*options, "--transport", transport, "--grace-seconds", "1", environment=environment)
    observe(server.target, 50)
    await_true(lambda: "127.0.0.1" in server.log and "exporting" in server.log)
    observe(server.target, 50)
    before = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - before < 1 + EXPORT_SECONDS
    complaints = [line for line in server.log.splitlines() if "opentelemetry" in line]
    assert 1 <= len(complaints) <= 3  # a minute for each kind
    assert "the last spans could not be exported within 1 s" in server.log
    assert "Traceback" not in server.log


def test_a_collector_that_never_answers_does_not_hold_up_the_end(
    any_redis: RedisProcess, models_folder: Path, session_id: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = ("--redis-url", any_redis.url, "--namespace", session_id, "--models", str(models_folder))
        environment = {ENDPOINT: f"http://127.0.0.1:{silent.getsockname()[1]}"}
        server = ServerProcess(*options, "--transport", "grpc", "--grace-seconds", "1", environment=environment)
        observe(server.target, 3)
        before = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - before < 1 + EXPORT_SECONDS
    assert "are lost" in server.log


def test_a_server_that_is_not_asked_for_traces_imports_nothing_for_them() -> None:
    """Other packages, such as redis, import the SDK by themselves if it is installed."""
    code = """
import sys
from statecast.service import server
from statecast.service.tracing import setup
assert setup.from_environment({}) is None
ours = "opentelemetry.exporter", "statecast.service.tracing.spans"
assert not [name for name in sys.modules if name.startswith(ours)]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
