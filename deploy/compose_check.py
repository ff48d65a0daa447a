"""Runs docker-compose.yml for real: build, forecast from the host, kill, go on, look at Prometheus, stop.

    .venv/bin/python deploy/compose_check.py

Needs a Docker engine, docker-compose, and the published ports free. What it starts is a project of its own, with its
own volumes, and is taken down at the end.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from statecast.client import Client, Forecast

ROOT = Path(__file__).parents[1]
PROJECT = "statecast-check"
HORIZON = 24
WAIT_SECONDS = 120.0
PROMETHEUS = f"http://127.0.0.1:{os.environ.get('PROMETHEUS_PUBLISHED_PORT', '9090')}"
TARGET = f"127.0.0.1:{os.environ.get('STATECAST_PUBLISHED_PORT', '50051')}"


class CheckFailed(Exception):
    """Something is not as docker-compose.yml promises."""


def compose(*arguments: str) -> str:
    """Runs docker-compose, or docker's plugin of that name; what it printed."""
    program = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    return _run(*program, "--project-name", PROJECT, *arguments)


def docker(*arguments: str) -> str:
    """Runs docker; what it printed."""
    return _run("docker", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-4000:]}")
    return done.stdout


def await_true(what: str, condition: Callable[[], bool]) -> None:
    """Waits, within bounds."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise CheckFailed(f"waited {WAIT_SECONDS:.0f} s in vain: {what}")
        time.sleep(0.5)
    say(what)


def say(what: str) -> None:
    """Reports what holds."""
    print(f"ok: {what}", flush=True)


def require(what: str, holds: bool) -> None:
    """Reports what holds, or fails."""
    if not holds:
        raise CheckFailed(f"does not hold: {what}")
    say(what)


def container(service: str) -> str:
    """The id of a service's container."""
    return compose("ps", "-q", service).strip()


def is_healthy(service: str) -> bool:
    """Whether the service's health check has passed."""
    return docker("inspect", "-f", "{{.State.Health.Status}}", container(service)).strip() == "healthy"


def bring_up() -> None:
    """Starts what does not run, and waits for all health checks."""
    compose("up", "-d")
    for service in ("redis", "server", "prometheus"):
        await_true(f"{service} is healthy", lambda service=service: is_healthy(service))  # type: ignore[misc]


def check_containers() -> None:
    """Users, file systems and ports."""
    for service in ("redis", "server", "prometheus"):
        identity = docker("exec", container(service), "id", "-u").strip()
        require(f"{service} runs as user {identity}, not as root", identity != "0")
        read_only = docker("inspect", "-f", "{{.HostConfig.ReadonlyRootfs}}", container(service)).strip()
        require(f"{service} has a read-only root file system", read_only == "true")
        ports = docker("port", container(service)).split("\n")
        outside = [line for line in ports if line and "-> 127.0.0.1:" not in line]
        require(f"{service} is published on 127.0.0.1 at most", not outside)
    require("redis is not published at all", not docker("port", container("redis")).strip())


def check_goes_on(client: Client) -> None:
    """A forecast through the published port, a kill, and the same session afterwards."""
    values = 50 + 10 * np.sin(np.arange(200) * 2 * np.pi / 24)
    session = client.session("compose-check", time_to_live=3600)
    before: Forecast = session.step(values, HORIZON)
    require(f"a forecast from the host: {before.median[:3].round(2)} ...", bool(np.isfinite(before.values).all()))
    docker("kill", container("server"))
    say("server killed with SIGKILL")
    bring_up()
    after = session.forecast(HORIZON)
    require(f"the session is still at {after.version}", after.version == before.version)
    require("and forecasts the same", bool(np.allclose(after.values, before.values, rtol=1e-4)))
    docker("kill", container("redis"))
    say("redis killed with SIGKILL")
    bring_up()
    require("the session outlives its Redis", session.forecast(HORIZON).version == before.version)
    require("and takes the next step", session.observe(50.0).version.step == before.version.step + 1)


def query(expression: str) -> list[dict[str, object]]:
    """What Prometheus answers."""
    url = f"{PROMETHEUS}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=10) as response:
        result: list[dict[str, object]] = json.load(response)["data"]["result"]
    return result


def check_prometheus() -> None:
    """The latency histogram, as Prometheus has it."""
    buckets = 'grpc_server_handling_seconds_bucket{grpc_method="Forecast"}'
    await_true("Prometheus has the latency histogram", lambda: len(query(buckets)) > 5)
    p99 = f"histogram_quantile(0.99, sum by (le) ({buckets}))"
    await_true("and answers with a p99 of it", lambda: any("NaN" not in str(each["value"]) for each in query(p99)))


def check_stop() -> None:
    """SIGTERM ends the server in order."""
    server = container("server")
    compose("stop", "server")
    status = docker("inspect", "-f", "{{.State.ExitCode}}", server).strip()
    require(f"asked to stop, the server ended with status {status}", status == "0")


def main() -> None:
    """Runs every check and cleans up."""
    try:
        compose("build")
        say("the image builds")
        bring_up()
        check_containers()
        with Client(TARGET, timeout_seconds=30) as client:
            check_goes_on(client)
        check_prometheus()
        check_stop()
    except CheckFailed as error:
        print(f"FAILED: {error}\n{compose('logs', '--tail', '40')}", file=sys.stderr)
        sys.exit(1)
    finally:
        compose("down", "--volumes", "--timeout", "5")


if __name__ == "__main__":
    main()
