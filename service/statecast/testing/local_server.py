"""`statecast serve` as a child process on free ports."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol

import psutil

from statecast.service.envoy.launcher import short_folder
from statecast.service.store.embedded import EmbeddedRedis

START_SECONDS = 120.0
STOP_SECONDS = 60.0


class ServerFailed(Exception):
    """The server did not start; the message is its log."""


class Process(Protocol):
    """The part of `subprocess.Popen` that a LocalServer uses."""

    pid: int

    def poll(self) -> int | None:
        """Returns the exit status, or None while the process runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end and returns the exit status."""

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal."""


class LocalServer:
    """A Statecast server in a child process, on free ports, with a Redis of its own in a temporary folder.

    It can be killed and started again on the same ports with the same data:

        with LocalServer() as server, Client(server.target) as client:
            client.session("boiler 7").observe([20.4, 20.3])
            server.kill()
            server.start()

    Args:
        options: Further options of `statecast serve`, such as "--models", "models"; see docs/operations.md.
        port: The gRPC port; 0 for a free one.
        environment: Variables to add to this process's own, of which those that begin with STATECAST_ are left out.
    """

    def __init__(self, *options: str, port: int = 0, environment: Mapping[str, str] | None = None) -> None:
        self._options, self._environment = options, dict(environment or {})
        self._temporary = tempfile.TemporaryDirectory(
            prefix="statecast-", dir=short_folder(), ignore_cleanup_errors=True
        )
        self._folder = Path(self._temporary.name)
        self._log, self._ports = self._folder / "server.log", self._folder / "ports.json"
        self._process: Process | None = None
        self._port, self._metrics_port = port, 0

    def __enter__(self) -> "LocalServer":
        """Starts the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops the server and deletes its data."""
        self.stop()

    @property
    def port(self) -> int:
        """The gRPC port; 0 before the first start if a free one is asked for."""
        return self._port

    @property
    def metrics_port(self) -> int:
        """The port of the metrics; 0 before the first start."""
        return self._metrics_port

    @property
    def target(self) -> str:
        """Host and port, as `Client` takes it."""
        return f"127.0.0.1:{self.port}"

    @property
    def metrics_url(self) -> str:
        """The address of the Prometheus metrics."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    @property
    def process_id(self) -> int:
        """The id of the server's process.

        Raises:
            ServerFailed: The server was never started.
        """
        return self._started().pid

    @property
    def engine_process_id(self) -> int:
        """The id of the process that computes: Envoy with the engine inside it, or the server's own.

        Raises:
            ServerFailed: The server was never started.
        """
        return next((each.pid for each in _envoys_of(self.process_id)), self.process_id)

    @property
    def log(self) -> str:
        """Everything the server has logged since its last start."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    @property
    def redis(self) -> EmbeddedRedis:
        """The server's own Redis; unused if the options name another."""
        return EmbeddedRedis(self._folder / "data")

    def start(self) -> float:
        """Starts the server, on the same ports if it ran before, and waits until it serves.

        Returns:
            How long that took, in seconds.

        Raises:
            ServerFailed: The server ended, or did not serve in time.
        """
        begun = time.monotonic()
        self.launch()
        self.wait_until_serving()
        return time.monotonic() - begun

    def launch(self) -> None:
        """Starts the server without waiting until it serves."""
        self._ports.unlink(missing_ok=True)
        self._log.write_bytes(b"")
        options = ["--device", "cpu", "--drain-seconds", "0", "--host", "127.0.0.1", "--metrics-host", "127.0.0.1"]
        options += ["--port", str(self._port), "--metrics-port", str(self._metrics_port)]
        options += ["--port-file", str(self._ports)]
        if "--kernels" not in self._options and "STATECAST_KERNELS" not in self._environment:
            options += ["--kernels", "off"]  # to compile them takes longer than most tests
        if not {"--redis-url", "--data-dir", "--config"} & set(self._options):
            options += ["--data-dir", str(self._folder / "data")]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("STATECAST_")}
        with _signals_held():
            self._process = self._launch([*options, *self._options], variables | self._environment, self._log)

    def wait_until_serving(self) -> None:
        """Waits until the server serves.

        Raises:
            ServerFailed: The server ended, or did not serve in time.
        """
        deadline, process = time.monotonic() + START_SECONDS, self._started()
        while not self._ports.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"the server did not start: {self.log.strip()}")
            time.sleep(0.02)
        ports = json.loads(self._ports.read_text())
        self._port, self._metrics_port = ports["port"], ports["metrics_port"]

    def kill(self) -> int:
        """Kills the server with SIGKILL; its Redis and its data stay.

        Returns:
            The id that the process had.
        """
        process = self._started()
        envoys = _envoys_of(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait(STOP_SECONDS)
        # Envoy ends with the process that started it, but not in the same instant. Redis stays.
        psutil.wait_procs(envoys, STOP_SECONDS)
        return process.pid

    def stop(self) -> int:
        """Stops the server and its Redis and deletes its data.

        Returns:
            The server's exit status; 0 if it was never started.
        """
        try:
            return self.terminate() if self._process else 0
        finally:
            self.redis.stop()
            self._temporary.cleanup()

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks the server to stop and waits until it has; its data stay.

        Returns:
            The exit status.
        """
        process = self._started()
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(STOP_SECONDS)

    def _started(self) -> Process:
        if self._process is None:
            raise ServerFailed("the server was not started")
        return self._process

    def _launch(self, options: list[str], environment: Mapping[str, str], log: Path) -> Process:
        command = [sys.executable, "-m", "statecast.service", "serve", *options]
        with log.open("ab") as output:
            # A session of its own, so that Ctrl-C reaches this process alone, which then stops the server.
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )


def _envoys_of(pid: int) -> list[psutil.Process]:
    try:
        return [child for child in psutil.Process(pid).children() if child.name() == "envoy"]
    except psutil.NoSuchProcess:
        return []


@contextmanager
def _signals_held() -> Iterator[None]:
    """Delays signals: one between the start of a process and its being noted would leave that process behind."""
    try:
        held: list[int] = []
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        handlers = {number: signal.signal(number, lambda number, _: held.append(number)) for number in numbers}
    except ValueError:  # only the main thread gets signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for signalled in held[:1]:
            signal.raise_signal(signalled)
