"""The measured server: `statecast serve` in its own process, with an embedded Redis."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import grpc
import psutil
import redis

from statecast.model.kernels.cache import are_possible
from statecast.service.cli.health import ask
from statecast.service.store.embedded import EmbeddedRedis
from statecast.testing import LocalServer, ServerFailed

from .secured import Key
from .usage import Watched

START_SECONDS, KERNEL_SECONDS = 120.0, 600.0
STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Serving:
    """A running server.

    Attributes:
        target: Host and port.
        watched: The server's processes and files.
        redis_url: URL of its Redis.
        start_seconds: Seconds from the start of its process until it reported SERVING.
        key: What callers need; None without TLS and authentication.
    """

    target: str
    watched: Watched
    redis_url: str
    start_seconds: float
    key: Key | None = None


@contextmanager
def serve(
    models: Path,
    default_model: str,
    transport: str = "auto",
    key: Key | None = None,
    access: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Serving]:
    """Run `statecast serve` with these models and an append-only file that is not rewritten, so that its growth counts.

    With `key`, callers need it; `access` are the options that make it so. `environment` are further variables.

    Raises:
        ServerFailed: If it does not start; the message is the server's.
    """
    options = ("--models", str(models), "--default-model", default_model, "--transport", transport, "--kernels", "auto")
    server = LocalServer(*options, *access, environment={"OMP_NUM_THREADS": "1", **(environment or {})})
    started = time.perf_counter()
    try:
        server.start()
        _await_serving(server.target, key)
        seconds = time.perf_counter() - started
        _await_kernels(server)
        yield Serving(server.target, watch(server.process_id, server.redis), server.redis.url, seconds, key)
    finally:
        server.stop()


@contextmanager
def private_redis() -> Iterator[EmbeddedRedis]:
    """Run the embedded Redis alone; `watch` turns off the rewriting of its append-only file."""
    with temporary_folder() as folder:
        embedded = EmbeddedRedis(Path(folder))
        embedded.start()
        try:
            yield embedded
        finally:
            embedded.stop()


def temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    """Return a temporary folder whose path is short enough for a unix socket."""
    return tempfile.TemporaryDirectory(prefix="statecast-", ignore_cleanup_errors=True)


def watch(server: int, embedded: EmbeddedRedis) -> Watched:
    """Turn off the rewriting of the append-only file, and return the processes and files to watch."""
    with redis.Redis.from_url(embedded.url) as client:
        client.config_set("auto-aof-rewrite-percentage", 0)
    pid = int((embedded.folder / "redis.pid").read_text())
    folder = embedded.folder / "appendonlydir"  # before Redis 7 the file lies next to others that do not grow
    return Watched(server, pid, folder if folder.exists() else embedded.folder)


@contextmanager
def process(command: list[str], log: Path, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process with one compute thread; at the end kill it and its descendants if it still runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STATECAST_")}
    environment |= {"OMP_NUM_THREADS": "1"} | variables
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    try:
        yield started
    finally:
        _kill(started)


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Terminate a process, and wait up to `STOP_SECONDS` for its end."""
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return


def _kill(started: "subprocess.Popen[bytes]") -> None:
    if started.poll() is None:
        for child in psutil.Process(started.pid).children(recursive=True):
            child.kill()
        started.kill()
    started.wait()


def _await_kernels(server: LocalServer) -> None:
    """Wait until the models run by kernels, which a machine compiles once; without numba there are none."""
    if not are_possible():
        return
    deadline = time.monotonic() + KERNEL_SECONDS
    while b"\nstatecast_kernels_ready 1.0" not in urlopen(server.metrics_url, timeout=10.0).read():
        if time.monotonic() > deadline:
            raise ServerFailed(server.log)
        time.sleep(0.1)


def _await_serving(target: str, key: Key | None) -> None:
    deadline = time.monotonic() + START_SECONDS
    credentials = grpc.ssl_channel_credentials(key.ca) if key else None
    while (said := ask(target, timeout_seconds=1.0, tls=credentials)) != "SERVING":
        if time.monotonic() > deadline:
            raise ServerFailed(said)
        time.sleep(0.02)
