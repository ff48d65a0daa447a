"""Servers of this project, in a thread or in a process."""

import asyncio
import os
import re
import signal
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

import psutil

from statecast.service.server import Running, serving
from statecast.service.settings import Settings
from support import WAIT_SECONDS, await_true
from support.forked import Forked


class ServerThread:
    """A server inside this process, on a loop in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = replace(settings, port=0, metrics_port=0, device="cpu")
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._failure: BaseException | None = None
        self._running: Running | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(WAIT_SECONDS)
        if self._failure:
            raise self._failure

    @property
    def target(self) -> str:
        assert self._running is not None
        return f"127.0.0.1:{self._running.port}"

    @property
    def metrics_url(self) -> str:
        assert self._running is not None
        return f"http://127.0.0.1:{self._running.metrics_port}/metrics"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_SECONDS)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        try:
            async with serving(self._settings) as self._running:
                self._ready.set()
                await self._stop.wait()
        except BaseException as error:
            self._failure = error
            self._ready.set()


def workers(process_id: int) -> list[psutil.Process]:
    """The processes that speak gRPC for the server in that process."""
    children = psutil.Process(process_id).children()
    return [child for child in children if "statecast.service.edge.front" in child.cmdline()]


SERVE = ("statecast.service", "serve")


class ServerProcess:
    """`statecast serve`, or another module that takes the same options, as a process of its own."""

    def __init__(
        self,
        *arguments: str,
        port: int = 0,
        module: Sequence[str] = SERVE,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        options = ["--device", "cpu", "--drain-seconds", "0", "--port", str(port), "--metrics-port", "0", *arguments]
        self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115
        variables = {**os.environ, "HOME": "/nonexistent", **(environment or {})}
        self.process = Forked(module[0], [*module[1:], *options], self._log.name, variables)

    @property
    def log(self) -> str:
        file = self._log.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    @property
    def port(self) -> int:
        """Where it serves gRPC; waits until it does."""
        return int(self._await_log(r"serving gRPC on 127\.0\.0\.1:(\d+)"))

    @property
    def metrics_port(self) -> int:
        return int(self._await_log(r"metrics on 127\.0\.0\.1:(\d+)"))

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)

    def _await_log(self, pattern: str) -> str:
        def found() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.poll()}: {self.log}")
            return bool(re.search(pattern, self.log))

        await_true(found)
        match = re.search(pattern, self.log)
        assert match is not None
        return match.group(1)
