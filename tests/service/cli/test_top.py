"""`statecast top`, on real servers."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from support import WAIT_SECONDS
from support.certificates import Authority
from support.redis_process import RedisProcess
from support.servers import ServerProcess, ServerThread

from statecast.client import Client, NotFound
from statecast.service.access import api_keys
from statecast.service.cli.main import main
from statecast.service.cli.readings import read
from statecast.service.cli.top_view import view
from statecast.service.scrape import Scrape
from statecast.service.settings import Settings

STATECAST = str(Path(sys.executable).with_name("statecast"))


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATECAST_API_KEY", "STATECAST_CA"):
        monkeypatch.delenv(name, raising=False)


def top(url: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["top", "--once", "--interval", "0.5", "--metrics-url", url, *options])


@contextmanager
def load(target: str, **options: str | Path) -> Iterator[None]:
    """Call the server until the end of the block: a step and a request that fails, again and again."""
    is_over = threading.Event()

    def call() -> None:
        with Client(target, **options) as client:  # type: ignore[arg-type]
            session = client.session(uuid.uuid4().hex, model="tiny")
            while not is_over.is_set():
                session.step(1.0, 2)
                with pytest.raises(NotFound):
                    client.session("never seen").info()

    thread = threading.Thread(target=call)
    thread.start()
    yield
    is_over.set()
    thread.join()


def test_one_reading_as_json(server: ServerThread) -> None:
    with load(server.target):
        done = top(server.metrics_url, "--output", "json")
    assert done.exit_code == 0, done.output
    reading = json.loads(done.stdout)
    assert {(each["code"], each["reason"]) for each in reading["outcomes"]} == {
        ("OK", ""), ("NOT_FOUND", "SESSION_NOT_FOUND"),
    }  # fmt: skip
    kinds = {each["kind"]: each for each in reading["kinds"]}
    assert set(kinds) == {"step", "get"}
    assert 0 < kinds["step"]["latency_p50_seconds"] <= kinds["step"]["latency_p99_seconds"] < 10
    rates = [each["requests_per_second"] for each in reading["kinds"]]
    assert reading["requests_per_second"] == pytest.approx(sum(rates))
    assert reading["interval_seconds"] >= 0.5
    assert reading["observations_per_second"] == pytest.approx(kinds["step"]["requests_per_second"], rel=0.5)
    assert (reading["batch_sessions"], reading["redis_usable"], reading["redis_volatile"]) == (1, True, False)
    assert 0.2 < reading["cache_hit_rate"] <= 1
    assert reading["cached_sessions"] > 0
    assert reading["memory_bytes"] > 1e7
    assert reading["cpu_cores"] > 0
    assert reading["envoy_connections"] is None
    assert not reading["has_restarted"]


def test_one_reading_for_people(server: ServerThread) -> None:
    with load(server.target):
        lines = top(server.metrics_url.removesuffix("/metrics")).stdout.splitlines()
    assert lines[0] == server.metrics_url
    names = [line.split()[0] for line in lines if line]
    assert names[-6:] == ["observations", "batch", "queue", "cache", "redis", "process"]
    assert "NOT_FOUND SESSION_NOT_FOUND" in "\n".join(lines)
    assert next(line for line in lines if line.startswith("redis")).split() == ["redis", "usable"]


def test_a_reading_without_any_request_has_no_quantiles() -> None:
    scrape = Scrape.parse("process_start_time_seconds 1.0\nstatecast_redis_up 0.0\nstatecast_redis_volatile 1.0\n")
    reading = read(scrape, scrape, 1.0)
    assert (reading.kinds, reading.outcomes, reading.requests_per_second) == ([], [], 0)
    assert reading.as_json()["latency_p99_seconds"] is None
    json.dumps(reading.as_json(), allow_nan=False)
    assert "NOT USABLE" in shown(Scrape.parse("statecast_redis_up 0.0\nstatecast_redis_volatile 1.0\n"))
    assert "VOLATILE" in shown(Scrape.parse("statecast_redis_up 1.0\nstatecast_redis_volatile 1.0\n"))
    assert "redis         usable" in shown(Scrape.parse("statecast_redis_up 1.0\n"))


def test_a_server_that_was_started_again_counts_from_nothing() -> None:
    before = Scrape.parse("process_start_time_seconds 1.0\nstatecast_requests_total 500.0\n")
    now = Scrape.parse("process_start_time_seconds 2.0\nstatecast_requests_total 4.0\n")
    reading = read(before, now, 2.0)
    assert reading.has_restarted
    assert reading.requests_per_second == 2
    assert "the server has started again" in shown(now, before)


def test_connections_to_envoy_are_shown_but_that_of_its_admin_interface() -> None:
    name = "envoy_http_downstream_cx_active"
    text = (
        f'{name}{{envoy_http_conn_manager_prefix="admin"}} 1.0\n{name}{{envoy_http_conn_manager_prefix="grpc"}} 7.0\n'
    )
    assert "envoy         7 connections" in shown(Scrape.parse(text))


def shown(now: Scrape, before: Scrape | None = None) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(view("http://x/metrics", read(before or now, now, 1.0), ""))
    return capture.get()


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (
            ("--metrics-url", "localhost:9464"),
            1,
            "is not an address with http:// or https://, such as http://localhost",
        ),
        (("--metrics-url", "file:///etc/passwd"), 1, "is not an address with http:// or https://"),
        (
            ("--metrics-url", "http://u:secret@localhost"),
            1,
            "holds a user or password; give a credential with --api-key",
        ),
        (("--metrics-url", "http://127.0.0.1:1"), 1, "no server listens there (connection refused)"),
        (("--metrics-url", "http://10.0.0.1:1", "--api-key", "secret"), 1, "--api-key: is not sent unencrypted"),
        (("--api-key", "secret secret"), 1, "--api-key: has a space"),
        (("--ca", "ca.pem"), 1, "--ca: needs https://"),
        (("--metrics-url", "https://localhost:1", "--ca", "missing.pem"), 1, "--ca: missing.pem cannot be read"),
        (("--interval", "0"), 2, "Invalid value for '--interval'"),
    ],
)
def test_a_wrong_option_is_named(options: tuple[str, ...], status: int, says: str) -> None:
    done = CliRunner().invoke(main, ["top", "--once", *options])
    assert done.exit_code == status
    assert says in done.stderr.splitlines()[-1]
    assert "secret" not in done.output


def test_a_live_view_is_no_json() -> None:
    done = CliRunner().invoke(main, ["top", "--output", "json"])
    assert done.exit_code == 2
    assert "--output json needs --once" in done.stderr


def test_what_are_no_metrics_of_statecast_are_refused(any_redis: RedisProcess, server: ServerThread) -> None:
    done = top(f"{server.metrics_url.removesuffix('/metrics')}/livez")
    assert done.exit_code == 1
    assert "check the address" in done.stderr


def test_tls_and_an_admins_key(any_redis: RedisProcess, models_folder: Path, tmp_path: Path) -> None:
    authority, keys = Authority(tmp_path), tmp_path / "keys.json"
    pair = authority.server()
    admin, writer = (api_keys.create(keys, "acme", role)[1] for role in ("admin", "write"))
    settings = Settings(
        redis_url=any_redis.url, namespace=uuid.uuid4().hex, models=models_folder, tls_cert=pair.cert,
        tls_key=pair.key, api_keys=keys,
    )  # fmt: skip
    server = ServerThread(settings)
    url, ca = server.metrics_url.replace("http://", "https://"), ("--ca", str(authority.ca))
    assert top(url, *ca, "--api-key", admin).exit_code == 0
    assert "asks for a credential whose role is admin" in top(url, *ca, "--api-key", writer).stderr
    assert "asks for a credential whose role is admin" in top(url, *ca).stderr
    assert "name its authority with --ca" in top(url, "--api-key", admin).stderr
    server.stop()


class Terminal:
    """A command in a terminal of 100 columns."""

    def __init__(self, *command: str) -> None:
        self._master, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        environment = {**os.environ, "TERM": "xterm"}
        self.process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, env=environment)
        os.close(inside)
        self.said = ""

    def await_text(self, text: str, count: int = 1) -> None:
        """Wait until the text has been shown so many times from now on."""
        deadline, found = time.monotonic() + WAIT_SECONDS, ""
        while found.count(text) < count:
            assert time.monotonic() < deadline, found
            found += os.read(self._master, 65_536).decode(errors="replace")
        self.said += found

    def end(self) -> tuple[int, str]:
        """Press Ctrl-C; return the exit status and all that was shown."""
        self.process.send_signal(signal.SIGINT)
        try:
            while part := os.read(self._master, 65_536):
                self.said += part.decode(errors="replace")
        except OSError:  # the terminal's other end is closed
            pass
        os.close(self._master)
        return self.process.wait(WAIT_SECONDS), self.said


def test_a_live_view_goes_on_when_the_server_is_killed(any_redis: RedisProcess, models_folder: Path) -> None:
    options = ("--redis-url", any_redis.url, "--namespace", uuid.uuid4().hex, "--models", str(models_folder))
    server = ServerProcess(*options)
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    terminal = Terminal(STATECAST, "top", "--metrics-url", url, "--interval", "0.2")
    terminal.await_text("usable", 3)
    server.kill()
    terminal.await_text("trying again", 2)
    server.start()
    terminal.await_text("usable", 2)
    status, said = terminal.end()
    assert server.stop() == 0
    assert status == 0
    assert "cannot read the metrics: no server listens there" in said
    assert "Traceback" not in said
    assert said.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_elsewhere_readings_follow_each_other_until_nobody_reads(server: ServerThread) -> None:
    command = [STATECAST, "top", "--metrics-url", server.metrics_url, "--interval", "0.2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    found = 0
    for line in process.stdout:
        found += line.startswith("redis")
        if found == 2:
            break
    process.stdout.close()
    assert process.wait(WAIT_SECONDS) == 1
    assert process.stderr.read() == ""
    process.stderr.close()
