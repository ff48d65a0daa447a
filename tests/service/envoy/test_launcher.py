"""`statecast serve` with Envoy: one process to the operator, and nothing left behind however it ends."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from prometheus_client.parser import text_string_to_metric_families
from support import WAIT_SECONDS, await_true
from support.certificates import Authority
from support.redis_process import RedisProcess
from support.servers import ServerProcess

from statecast.client import Client
from statecast.service.envoy import launcher
from statecast.service.settings import Settings

pytestmark = pytest.mark.skipif(bool(launcher.why_not()), reason=launcher.why_not())


@pytest.fixture
def server(any_redis: RedisProcess) -> Iterator[ServerProcess]:
    options = ("--redis-url", any_redis.url, "--namespace", "envoy", "--drain-seconds", "0.5")
    server = ServerProcess("--transport", "envoy", *options)
    server.wait_until_serving()
    yield server
    server.process.kill()


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_both_processes_cleanly(server: ServerProcess, number: signal.Signals) -> None:
    envoy = server.engine
    assert envoy.pid != server.process.pid
    assert server.stop(number) == 0
    assert gone(envoy)
    assert "Traceback" not in server.log
    assert not list(Path("/tmp").glob(f"statecast-envoy-*{server.process.pid}"))


def test_killed_it_takes_envoy_along(server: ServerProcess) -> None:
    envoy = server.engine
    folder = folder_of(envoy)
    assert folder.exists()
    os.kill(server.process.pid, signal.SIGKILL)
    await_true(lambda: gone(envoy))
    assert not folder.exists()


def test_both_killed_they_leave_no_private_key_behind(any_redis: RedisProcess, tmp_path: Path) -> None:
    pair = Authority(tmp_path).server()
    tls = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
    server = ServerProcess("--transport", "envoy", "--redis-url", any_redis.url, *tls)
    server.wait_until_serving()
    folder = folder_of(server.engine)
    assert ssl.get_server_certificate(("127.0.0.1", server.port)) == pair.cert.read_text()
    server.signal_all(signal.SIGKILL)
    server.process.wait(WAIT_SECONDS)
    left = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    assert "BEGIN CERTIFICATE" in left["server.json"]
    assert not [name for name, text in left.items() if "PRIVATE KEY" in text]
    shutil.rmtree(folder)


def folder_of(envoy: psutil.Process) -> Path:
    """Return the folder of this Envoy's files."""
    config = json.loads(envoy.cmdline()[envoy.cmdline().index("--config-yaml") + 1])
    return Path(config["admin"]["address"]["pipe"]["path"]).parent


def test_envoy_killed_it_ends_with_an_error(server: ServerProcess) -> None:
    server.engine.kill()
    assert server.process.wait(WAIT_SECONDS) == 1
    assert "Envoy has ended with status -9; it was killed, perhaps for want of memory; start again" in server.log


def test_sigterm_to_envoy_itself_ends_all(server: ServerProcess) -> None:
    server.engine.terminate()
    assert server.process.wait(WAIT_SECONDS) == 1
    assert "Traceback" not in server.log


def test_a_port_in_use_is_named_before_anything_starts(any_redis: RedisProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = ServerProcess("--transport", "envoy", "--redis-url", any_redis.url, port=port)
        assert server.process.wait(WAIT_SECONDS) == 1
    assert f"cannot listen on 127.0.0.1:{port}: another process listens there" in server.log


def test_an_error_of_the_server_inside_is_told(any_redis: RedisProcess) -> None:
    server = ServerProcess("--transport", "envoy", "--redis-url", any_redis.url, "--default-model", "nosuch")
    assert server.process.wait(WAIT_SECONDS) == 1
    assert "Error: default-model 'nosuch' does not exist" in server.log
    assert "Traceback" not in server.log
    assert "envoy." not in server.log


def test_calls_in_flight_finish(server: ServerProcess, session_id: str) -> None:
    with Client(server.target) as client:
        session = client.session(session_id)
        for value in range(5):
            session.observe(float(value))
        server.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        while time.monotonic() - begun < 0.3:  # it drains meanwhile
            assert session.observe(1.0).version.step > 5
    assert server.process.wait(WAIT_SECONDS) == 0


def test_its_statistics_stand_among_the_metrics(server: ServerProcess, session_id: str) -> None:
    with Client(server.target) as client:
        for _ in range(3):
            client.session(session_id).observe(1.0)
    with urllib.request.urlopen(server.metrics_url) as answer:
        families = {each.name: each for each in text_string_to_metric_families(answer.read().decode())}
    prefixes = {
        sample.labels["envoy_http_conn_manager_prefix"]: sample.value
        for sample in families["envoy_http_downstream_rq"].samples
    }
    assert prefixes["grpc"] >= 3
    assert "grpc_server_handled" in families


def test_many_calls_that_expire_leave_the_others_of_their_connection_alone(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        other = health.Watch(HealthCheckRequest())
        assert next(other).status == HealthCheckResponse.SERVING
        calls = [health.Watch(HealthCheckRequest(), timeout=1.0) for _ in range(1500)]
        codes = Counter(call.code() for call in calls)
        assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED: 1500}
        assert other.is_active()
        assert health.Check(HealthCheckRequest()).status == HealthCheckResponse.SERVING
        other.cancel()


def test_a_name_is_a_host(any_redis: RedisProcess) -> None:
    server = ServerProcess("--transport", "envoy", "--redis-url", any_redis.url, "--host", "localhost")
    with Client(server.target) as client:
        assert client.models()
    assert server.stop() == 0


def test_its_configuration_can_be_printed() -> None:
    command = [sys.executable, "-m", "statecast.service", "serve", "--print-envoy-config", "--port", "1234"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"port_value": 1234' in done.stdout


def test_what_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_libpython", lambda: "")
    assert "libpython" in launcher.why_not()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pyvoy is not installed" in launcher.why_not()


ENVOY_SAYS = r"""
printf 'ENVOY|warning|main|said "so"\\nand more\n{"time": "2024-05-01T12:34:56.789Z"}\nfrom a library\n' >&2
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_of_envoy_and_of_its_libraries_are_lines_of_the_log(
    form: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(launcher, "_command", lambda *_: ["sh", "-c", ENVOY_SAYS])
    envoy = launcher._Envoy(Settings(log_format=form), tmp_path / "folder" / "admin.sock", "")
    envoy.process.wait()
    envoy.end()
    told = [(record.levelname, record.name, record.message) for record in caplog.records]
    as_is = '{"time": "2024-05-01T12:34:56.789Z"}\n'
    library = [("WARNING", "stderr", "from a library")] if form == "json" else []
    assert told == [("WARNING", "envoy.main", 'said "so"\\nand more'), *library]
    assert capsys.readouterr().err == (as_is if form == "json" else f"{as_is}from a library\n")


def test_at_debug_envoy_shows_no_headers() -> None:
    levels = launcher._log_levels("debug")
    assert levels[:2] == ("--log-level", "info")
    assert not {"http:debug", "rbac:debug", "router:debug", "http2:debug"} & set(levels[-1].split(","))
    assert launcher._log_levels("info") == ("--log-level", "warning")
