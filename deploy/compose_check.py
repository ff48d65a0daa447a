"""Runs docker-compose.yml for real: build, serve, kill, restart, alert, back up, stop.

    .venv/bin/python deploy/compose_check.py

Needs a Docker engine, docker-compose, and the published ports free. What it starts is a project of its own, with its
own volumes and passwords, and is taken down at the end. Grafana is left out.
"""

import json
import multiprocessing
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from statecast.client import Client, Forecast, SessionRegressed, StatecastError

ROOT = Path(__file__).parents[1]
PROJECT = "statecast-check"
SERVERS = ("server-a", "server-b")
SERVICES = ("redis", *SERVERS, "balancer", "prometheus")
HORIZON = 24
CALLERS = 4
CONNECTION_AGE_SECONDS = 10
WAIT_SECONDS = 120.0
ALERT_SECONDS = 30.0
PROMETHEUS = f"http://127.0.0.1:{os.environ.get('PROMETHEUS_PUBLISHED_PORT', '9090')}"
TARGET = f"127.0.0.1:{os.environ.get('STATECAST_PUBLISHED_PORT', '50051')}"


class CheckFailed(Exception):
    """Something is not as docker-compose.yml promises."""


def compose(*arguments: str) -> str:
    """Run docker-compose, or docker's plugin of that name; return what it printed."""
    program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    return run(*program, *arguments)


def docker(*arguments: str) -> str:
    """Run docker; return what it printed."""
    return run("docker", *arguments)


def run(*command: str) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-4000:]}")
    return done.stdout


def await_true(what: str, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Wait until something holds, within bounds, and report how long it took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() > begun + seconds:
            raise CheckFailed(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.25)
    say(f"{what} ({time.monotonic() - begun:.1f} s)")


def say(what: str) -> None:
    """Report what holds."""
    print(f"ok: {what}", flush=True)


def require(what: str, holds: bool) -> None:
    """Report what holds, or fail."""
    if not holds:
        raise CheckFailed(f"does not hold: {what}")
    say(what)


def container(service: str) -> str:
    """Return the id of a service's container."""
    return compose("ps", "-q", service).strip()


def inspect(service: str, form: str) -> str:
    """Return a part of what docker knows of a service's container."""
    return docker("inspect", "-f", form, container(service)).strip()


def bring_up() -> None:
    """Start what does not run, and wait for all health checks."""
    compose("up", "-d")
    for service in SERVICES:
        await_healthy(service)


def await_healthy(service: str) -> None:
    """Wait for a service's health check."""
    await_true(f"{service} is healthy", lambda: inspect(service, "{{.State.Health.Status}}") == "healthy")


def query(expression: str) -> list[dict[str, object]]:
    """Return what Prometheus answers."""
    url = f"{PROMETHEUS}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=10) as response:
        result: list[dict[str, object]] = json.load(response)["data"]["result"]
    return result


def await_alert(name: str) -> None:
    """Wait until an alert fires in Prometheus."""
    fires = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    await_true(f"the alert {name} fires", lambda: bool(query(fires)), ALERT_SECONDS)


def await_replicas(number: int) -> None:
    """Wait until the balancer has so many servers ready."""
    ask = "exec 3<>/dev/tcp/127.0.0.1/8404 && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
    ready = f'haproxy_backend_active_servers{{proxy="ready"}} {number}'
    await_true(
        f"the balancer has {number} servers ready",
        lambda: ready in docker("exec", container("balancer"), "bash", "-c", ask).split("\n"),
    )


def await_spread() -> None:
    """Wait until both servers append observations, since a short time ago."""
    busy = "sum by (instance) (rate(statecast_observations_total[15s])) > 0"
    await_true("calls spread over both servers", lambda: len(query(busy)) == 2)


def call(number: int, over: Event, steps: "multiprocessing.Queue[int | str]") -> None:
    """Take steps on a session of its own until it is over; pass on how many, or the error."""
    try:
        with Client(TARGET, timeout_seconds=30) as client:
            session, begun = client.session(f"caller-{number}-{time.time_ns()}"), 0
            while not over.wait(0.01):
                begun += 1
                if session.step(float(begun % 24), HORIZON).version.step != begun:
                    raise CheckFailed(f"step {begun} was lost or taken twice")
        steps.put(begun)
    except Exception as error:  # to be judged by the parent
        steps.put(f"{type(error).__name__}: {error}")


@contextmanager
def load(what: str) -> Iterator[None]:
    """Call meanwhile from several processes, each with its own connection; no call may fail."""
    context = multiprocessing.get_context("spawn")
    over, steps = context.Event(), context.Queue()
    callers = [context.Process(target=call, args=(number, over, steps)) for number in range(CALLERS)]
    for each in callers:
        each.start()
    try:
        yield
    finally:
        over.set()
    results = [steps.get(timeout=60) for _ in callers]
    for each in callers:
        each.join()
    require(
        f"{what}: {CALLERS} callers took {results} steps without an error", all(isinstance(n, int) for n in results)
    )


@contextmanager
def failing_load() -> Iterator[None]:
    """Call meanwhile, whatever comes of it."""
    over = threading.Event()

    def attempt() -> None:
        with Client(TARGET, timeout_seconds=1) as client:
            session = client.session("attempts")
            while not over.wait(0.1):
                with suppress(StatecastError):
                    session.observe(1.0)

    thread = threading.Thread(target=attempt)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def check_containers() -> None:
    """Users, file systems, limits and ports."""
    published = {"balancer": "50051/tcp", "prometheus": "9090/tcp"}
    for service in SERVICES:
        identity = docker("exec", container(service), "id", "-u").strip()
        require(f"{service} runs as user {identity}, not as root", identity != "0")
        require(
            f"{service} has a read-only root file system", inspect(service, "{{.HostConfig.ReadonlyRootfs}}") == "true"
        )
        require(f"{service} has no capabilities", inspect(service, "{{.HostConfig.CapDrop}}") == "[ALL]")
        bounds = inspect(service, "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}").split()
        require(f"{service} has {bounds[0]} bytes and {bounds[1]} nanocpus at most", "0" not in bounds)
        ports = [line for line in docker("port", container(service)).split("\n") if line]
        expected = published.get(service)
        right = all(line.startswith(f"{expected} -> 127.0.0.1:") for line in ports) and len(ports) == bool(expected)
        require(f"{service} publishes {expected or 'nothing'}", right)
    refused = docker("exec", container("redis"), "redis-cli", "ping")
    require("redis asks for a password", "NOAUTH" in refused)
    command = docker("exec", container("redis"), "cat", "/proc/1/cmdline")
    require("which no list of processes shows", "redis-server" in command and "requirepass" not in command)


def check_serves(client: Client) -> Forecast:
    """A forecast through the balancer, and both servers at work."""
    values = 50 + 10 * np.sin(np.arange(200) * 2 * np.pi / 24)
    forecast: Forecast = client.session("compose-check", time_to_live=3600).step(values, HORIZON)
    require(f"a forecast from the host: {forecast.median[:3].round(2)} ...", bool(np.isfinite(forecast.values).all()))
    with load("on both servers"):
        await_spread()
    return forecast


def check_kill(client: Client, before: Forecast) -> None:
    """One server is killed with SIGKILL: sessions go on, and the alert tells."""
    with load("over the SIGKILL of a server"):
        docker("kill", container(SERVERS[0]))
        say(f"{SERVERS[0]} killed with SIGKILL")
        after = client.session("compose-check").forecast(HORIZON)
        require(f"the session is still at {after.version}", after.version == before.version)
        require("and forecasts the same", bool(np.allclose(after.values, before.values, rtol=1e-4)))
        await_alert("StatecastReplicaDown")
        bring_up()
        await_replicas(2)
        if query("envoy_http_downstream_cx_active"):
            await_spread()
        else:
            say("the image has no Envoy, so connections stay with the server that they have")


def check_rolling_restart() -> None:
    """Each server is replaced in turn, as in an upgrade."""
    with load("over a rolling restart"):
        for server in SERVERS:
            compose("up", "-d", "--no-deps", "--force-recreate", server)
            await_healthy(server)
            await_replicas(2)


def check_scale() -> None:
    """Another server joins and leaves."""
    with load("while a server joins and leaves"):
        compose("up", "-d", "--no-recreate", "--scale", f"{SERVERS[1]}=2")
        await_replicas(3)
        compose("up", "-d", "--no-recreate", "--scale", f"{SERVERS[1]}=1")
        await_replicas(2)


def check_redis_killed(client: Client, before: Forecast) -> None:
    """Redis is killed: the alerts tell, and every session outlives it."""
    session = client.session("compose-check")
    with failing_load():
        docker("kill", container("redis"))
        say("redis killed with SIGKILL")
        await_alert("StatecastRedisUnusable")
        await_alert("StatecastNoReplicaReady")
    bring_up()
    require("the session outlives its Redis", session.forecast(HORIZON).version == before.version)
    require("and takes the next step", session.observe(50.0).version.step == before.version.step + 1)
    await_replicas(2)


def check_backup(client: Client, folder: Path) -> None:
    """A backup is taken while the servers serve, and put back: what came after it is reported as lost."""
    session = client.session("backed-up", replay_requests=0)
    saved = session.observe([1.0, 2.0]).version
    with load("during a backup"):
        run("deploy/redis-backup", "save", str(folder / "redis.tar.gz"))
    session.observe(3.0)
    run("deploy/redis-backup", "restore", str(folder / "redis.tar.gz"))
    bring_up()
    await_replicas(2)
    with suppress(SessionRegressed):
        session.observe(4.0)
        raise CheckFailed("a lost observation was not reported")
    require("the backup holds the session", client.session("backed-up").observe([]).version == saved)
    await_alert("StatecastObservationsLost")


def check_prometheus() -> None:
    """The latency histogram, as Prometheus has it."""
    p99 = 'histogram_quantile(0.99, sum by (le) (rate(statecast_request_seconds_bucket{kind="step"}[5m])))'
    await_true("Prometheus answers with a p99", lambda: any("NaN" not in str(each["value"]) for each in query(p99)))


def check_stop() -> None:
    """SIGTERM ends the servers in order; without any, the alert tells."""
    ids = [container(server) for server in SERVERS]
    compose("stop", *SERVERS)
    statuses = [docker("inspect", "-f", "{{.State.ExitCode}}", each).strip() for each in ids]
    require(f"asked to stop, the servers ended with {statuses}", statuses == ["0", "0"])
    await_alert("StatecastNoReplicaUp")


def prepare(folder: Path) -> None:
    """Make passwords, and name the project and them for docker-compose."""
    for name in ("redis-password", "grafana-password"):
        (folder / name).write_text(secrets.token_hex(24) + "\n")
        (folder / name).chmod(0o644)
    os.environ |= {
        "COMPOSE_PROJECT_NAME": PROJECT,
        "SECRETS_FOLDER": str(folder),
        "STATECAST_MAX_CONNECTION_AGE_SECONDS": str(CONNECTION_AGE_SECONDS),
    }


def check(folder: Path) -> None:
    """Run every check."""
    compose("build")
    say("the image builds")
    bring_up()
    await_replicas(2)
    check_containers()
    with Client(TARGET, timeout_seconds=30) as client:
        before = check_serves(client)
        check_prometheus()
        check_kill(client, before)
        check_rolling_restart()
        check_scale()
        check_redis_killed(client, before)
        check_backup(client, folder)
    check_stop()


def main() -> None:
    """Run every check and clean up."""
    with tempfile.TemporaryDirectory(prefix="statecast-check-") as name:
        prepare(Path(name))
        try:
            check(Path(name))
        except (CheckFailed, OSError) as error:
            print(f"FAILED: {error}\n{compose('logs', '--tail', '40')}", file=sys.stderr)
            sys.exit(1)
        finally:
            compose("down", "--volumes", "--timeout", "5")


if __name__ == "__main__":
    main()
