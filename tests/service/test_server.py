"""Whole servers as processes: killed, stopped, two at once, and refused starts."""

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from click.testing import CliRunner
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from support import WAIT_SECONDS, await_true, short_folder
from support.redis_process import RedisProcess
from support.servers import ServerProcess

from statecast.service.cli.main import main
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

OPEN = forecast_pb2.OpenOptions()
HORIZON = 8


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


def step(target: str, session_id: str, *values: float) -> pb.ForecastResponse:
    """One observation and a forecast, over a channel of its own."""
    with grpc.insecure_channel(target) as channel:
        observations = forecast_pb2.Observations(values=values)
        request = pb.ForecastRequest(session_id=session_id, open=OPEN, observations=observations, horizon=HORIZON)
        return ForecastServiceStub(channel).Forecast(request, timeout=20, wait_for_ready=True)


def same(one: pb.ForecastResponse, other: pb.ForecastResponse) -> bool:
    """Equal but for the rounding of float32."""
    close = all(
        abs(a - b) <= 1e-4 * max(1.0, abs(b)) for a, b in zip(one.forecast.values, other.forecast.values, strict=True)
    )
    return close and one.version == other.version


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_killed_between_any_two_calls_it_goes_on_where_it_was(folder: Path) -> None:
    values = [10.0 + (at % 7) for at in range(12)]
    port = free_port()
    server = ServerProcess("--data-dir", str(folder), port=port)
    uninterrupted = [step(server.target, "reference", value) for value in values]
    for at, value in enumerate(values):
        assert same(step(server.target, "killed", value), uninterrupted[at])
        if at in (0, 1, 5):
            server.kill()
            server = ServerProcess("--data-dir", str(folder), port=port)
    assert server.stop() == 0
    assert not (folder / "redis.sock").exists()  # the embedded Redis has gone as well


def test_two_servers_on_one_redis_agree_with_one(any_redis: RedisProcess) -> None:
    arguments = ("--redis-url", any_redis.url, "--namespace", "two")
    servers = [ServerProcess(*arguments) for _ in range(2)]
    for at in range(10):
        alternating = step(servers[at % 2].target, "alternating", float(at))
        reference = step(servers[0].target, "reference", float(at))
        assert same(alternating, reference)
    assert [server.stop() for server in servers] == [0, 0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_first_says_so_and_finishes_its_calls(folder: Path, number: signal.Signals) -> None:
    server = ServerProcess("--data-dir", str(folder), "--drain-seconds", "1")
    with grpc.insecure_channel(server.target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "statecast.v1.ForecastService", "statecast.v1.ModelService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(number)
        await_true(
            lambda: health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        )
        assert step(server.target, "late", 1.0).version.step == 1
    assert server.process.wait(WAIT_SECONDS) == 0
    assert "stopped" in server.log
    assert "Traceback" not in server.log


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    server = ServerProcess("--data-dir", str(folder), "--drain-seconds", "60")
    assert server.port
    server.process.send_signal(signal.SIGTERM)
    await_true(lambda: "shutting down" in server.log)
    assert server.stop() == 128 + signal.SIGTERM
    successor = ServerProcess("--data-dir", str(folder))
    assert step(successor.target, "a", 1.0).version.step == 1
    assert successor.stop() == 0


def test_reflection_lists_the_services(folder: Path) -> None:
    server = ServerProcess("--data-dir", str(folder))
    with grpc.insecure_channel(server.target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"statecast.v1.ForecastService", "statecast.v1.ModelService"} <= set(database.get_services())
        service = DescriptorPool(database).FindServiceByName("statecast.v1.ForecastService")
        assert "Forecast" in service.methods_by_name
    server.stop()


def test_metrics_tell_what_was_done(folder: Path) -> None:
    server = ServerProcess("--data-dir", str(folder))
    step(server.target, "a", 1.0, 2.0)
    step(server.target, "a")
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError):
        ForecastServiceStub(channel).Forecast(pb.ForecastRequest())
    rpc = 'grpc_method="Forecast",grpc_service="statecast.v1.ForecastService",grpc_type="unary"'
    model = 'model="base",model_version="2"'
    expected = {
        f"grpc_server_started_total{{{rpc}}} 3.0",
        f"grpc_server_handling_seconds_count{{{rpc}}} 3.0",
        f"statecast_observations_total{{{model}}} 2.0",
        f"statecast_forecasts_total{{{model}}} 2.0",
        f"statecast_sessions_opened_total{{{model}}} 1.0",
        "statecast_cache_hits_total 1.0",
        "statecast_cache_misses_total 1.0",
        "statecast_cached_sessions 1.0",
        "statecast_queue_requests 0.0",
        'statecast_phase_seconds_count{phase="commit"} 2.0',
        "statecast_batch_sessions_count 2.0",
    }
    lines: set[str] = set()

    def told() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as response:
            lines.clear()
            lines.update(response.read().decode().splitlines())
        return expected <= lines

    # A call is counted when the server is done with it, a moment after its caller has heard.
    await_true(told)
    server.stop()
    codes = {line for line in lines if line.startswith("grpc_server_handled_total{")}
    assert len(codes) == 2
    assert not any("session" in label for line in lines for label in line.partition("{")[2].split(","))


SERVE = ("serve", "--port", "0", "--metrics-port", "0")


def refused(*arguments: str) -> str:
    """What a server that must not start says, in a line; in this process, which has loaded all that it needs."""
    done = CliRunner().invoke(main, [*SERVE, *arguments])
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit)
    return done.stderr.splitlines()[-1]


def test_a_start_that_is_refused_is_said_in_a_line_without_a_stack_trace(folder: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "statecast.service", *SERVE, "--data-dir", str(folder), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        message = refused("--data-dir", str(folder), "--metrics-port", port)
        assert f"cannot serve metrics on 127.0.0.1:{port}" in message


def test_starts_that_are_refused(folder: Path) -> None:
    data = ("--data-dir", str(folder))
    assert "Redis at redis://127.0.0.1:1 cannot be reached" in refused("--redis-url", "redis://127.0.0.1:1")
    assert "models folder /no/such does not exist" in refused(*data, "--models", "/no/such")
    assert "default-model 'nope' does not exist; choose one of: base" in refused(*data, "--default-model", "nope")
    assert "device cuda is not available" in refused(*data, "--device", "cuda")
    assert "host 'nosuch.invalid' is not an address" in refused(*data, "--host", "nosuch.invalid")
    assert "is not a number of at most" in refused("--redis-timeout-seconds", "nan")
    assert "namespace 'a:b' must not contain a colon" in refused(*data, "--namespace", "a:b")
    for url in ("redis://:secret@localhost:notaport/0", "redis://localhost/0?password=secret", "redis://localhost/abc"):
        message = refused("--redis-url", url)
        assert "redis://" in message
        assert "secret" not in message
    assert "65536 is not in the range" in refused("--port", "65536")
    assert "No such option" in refused("--prot", "1")


def test_variables_of_a_platform_are_ignored_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes makes them for a Service named statecast."""
    monkeypatch.setenv("STATECAST_PORT", "tcp://10.96.14.7:50051")
    monkeypatch.setenv("STATECAST_METRICS_HOST", "tcp://10.96.14.7")
    command = ["serve", "--redis-url", "redis://127.0.0.1:1"]
    message = CliRunner().invoke(main, command).stderr
    for name in ("STATECAST_PORT=tcp://10.96.14.7:50051", "STATECAST_METRICS_HOST=tcp://10.96.14.7"):
        assert f"warning: {name} is ignored: it looks like a variable set by Kubernetes" in message
    assert "Redis at redis://127.0.0.1:1 cannot be reached" in message
    monkeypatch.setenv("STATECAST_PORT", "http")
    assert "'http' is not a valid integer range" in CliRunner().invoke(main, command).stderr


def test_secrets_come_out_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = tmp_path / "url"
    address.write_text("redis://:secret@127.0.0.1:1\n")
    monkeypatch.setenv("STATECAST_REDIS_URL_FILE", str(address))
    assert "Redis at redis://***@127.0.0.1:1 cannot be reached" in refused()
    assert "Redis at redis://127.0.0.1:2 cannot be reached" in refused("--redis-url", "redis://127.0.0.1:2")
    monkeypatch.setenv("STATECAST_REDIS_URL_FILE", "/no/such")
    assert "STATECAST_REDIS_URL_FILE: /no/such cannot be read" in refused()
    password = ("--redis-password-file", "/no/such")
    assert "redis-password-file /no/such cannot be read" in refused("--redis-url", "redis://127.0.0.1:1", *password)


def test_settings_files_that_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "statecast.toml"
    config.write_text("prot = 1\n")
    assert "unknown settings: prot" in refused("--config", str(config))
    for line in ("models = 5", "threads = 1.9", "snapshot_every = true", 'namespace = ["x"]', 'port = "5"'):
        config.write_text(line)
        assert f"{line.split()[0]} is " in refused("--config", str(config))
    config.write_text("port = \n")
    assert "cannot be read" in refused("--config", str(config))
    config.write_bytes(b"\xef\xbb\xbfprot = 1\n")  # as Windows' Notepad writes it
    assert "unknown settings: prot" in refused("--config", str(config))


def test_settings_come_from_file_environment_and_options(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "statecast.toml"
    config.write_text(f'data_dir = "{folder}"\nnamespace = "file"\nlog_level = "error"\n')
    monkeypatch.setenv("STATECAST_NAMESPACE", "environment")
    monkeypatch.setenv("STATECAST_LOG_LEVEL", "info")
    server = ServerProcess("--config", str(config), "--namespace", "option")
    step(server.target, "a", 1.0)
    assert redis.Redis(unix_socket_path=str(folder / "redis.sock")).keys("*:a") == [b"option:default:a"]
    server.stop()


def test_an_empty_models_folder_is_said_and_the_bundled_model_served(folder: Path, tmp_path: Path) -> None:
    server = ServerProcess("--data-dir", str(folder), "--models", str(tmp_path))
    assert step(server.target, "a", 1.0).version.step == 1
    assert f"models folder {tmp_path} holds no <name>/<version>/config.json" in server.log
    server.stop()


def test_redis_gone_and_back_needs_no_restart(own_redis: RedisProcess) -> None:
    server = ServerProcess("--redis-url", own_redis.url)
    step(server.target, "a", 1.0)
    own_redis.kill()
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        step(server.target, "a", 2.0)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - started < 10
    own_redis.start()
    assert step(server.target, "a", 2.0).version.step == 2
    assert server.stop() == 0
