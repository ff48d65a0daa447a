"""The server that the demo starts, kills and starts again, as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from statecast.service.store.embedded import EmbeddedRedis

START_SECONDS = 60.0
_PORTS = re.compile(r"serving gRPC on [^ ]*:(\d+), metrics on [^ ]*:(\d+)")


class ServerFailed(Exception):
    """The server did not start; the message is what it said."""


class DemoServer:
    """`statecast serve` on free ports, with an embedded Redis in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.metrics_port = 0

    @property
    def target(self) -> str:
        """Where it serves gRPC."""
        return f"127.0.0.1:{self.port}"

    @property
    def metrics_url(self) -> str:
        """Where it serves its metrics."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    @property
    def process_id(self) -> int | None:
        """The running server's process; None before the first start."""
        return self._process.pid if self._process else None

    def start(self) -> float:
        """Start, or start again on the same port, and wait until it serves; how many seconds that took.

        Raises:
            ServerFailed: with what the server said.
        """
        started = time.monotonic()
        command = [sys.executable, "-m", "statecast.service", "serve", "--device", "cpu", "--drain-seconds", "0"]
        command += ["--data-dir", str(self._folder), "--port", str(self.port), "--metrics-port", "0"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STATECAST_")}
        with self._log.open("wb") as log, _signals_held():
            # A session of its own, so that Ctrl-C reaches the demo alone, which then stops the server in good order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        while not (ports := _PORTS.search(self._log.read_text())):
            if self._process.poll() is not None or time.monotonic() > started + START_SECONDS:
                raise ServerFailed(f"the server did not start: {self._log.read_text().strip()}")
            time.sleep(0.02)
        self.port, self.metrics_port = int(ports[1]), int(ports[2])
        return time.monotonic() - started

    def kill(self) -> int:
        """SIGKILL: no chance to save anything; the process id that it had."""
        return self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop in good order; the embedded Redis too, if the server had been killed."""
        if self._process and self._process.poll() is None:
            self._end(signal.SIGTERM)
        EmbeddedRedis(self._folder).stop()

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            raise ServerFailed("the server was not started")
        self._process.send_signal(number)
        self._process.wait()
        return self._process.pid


@contextmanager
def _signals_held() -> Iterator[None]:
    """Puts signals off: one that came between the start of a process and its being noted would leave it behind."""
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.signal(number, lambda number, _: held.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for signalled in held[:1]:
            signal.raise_signal(signalled)


def new_folder() -> "tempfile.TemporaryDirectory[str]":
    """A temporary folder whose path is short enough for a unix socket."""
    return tempfile.TemporaryDirectory(prefix="statecast-", ignore_cleanup_errors=True)
