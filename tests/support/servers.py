"""Statecast servers in a thread or in a process."""

import asyncio
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from statecast.service.server import Running, serving
from statecast.service.settings import Settings
from statecast.testing import LocalServer
from support import WAIT_SECONDS
from support.forked import Forked


class ServerThread:
    """A server inside this process, on an event loop in its own thread."""

    def __init__(self, settings: Settings) -> None:
        kernels = "off" if settings.kernels == "auto" else settings.kernels
        self._settings = replace(settings, port=0, metrics_port=0, device="cpu", kernels=kernels)
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


SERVE = ("statecast.service", "serve")


class ServerProcess(LocalServer):
    """`statecast serve`, or another module with the same options, in a forked process, which starts sooner.

    The constructor does not wait until the server serves; `port` does.
    """

    def __init__(
        self,
        *arguments: str,
        port: int = 0,
        module: Sequence[str] = SERVE,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(*arguments, port=port, environment={"HOME": "/nonexistent", **(environment or {})})
        self._module = module
        self.launch()

    @property
    def process(self) -> Forked:
        assert isinstance(self._process, Forked)
        return self._process

    @property
    def port(self) -> int:
        """Wait until the server serves, and return its gRPC port."""
        if not self._metrics_port:
            self.wait_until_serving()
        return self._port

    @property
    def metrics_port(self) -> int:
        """Wait until the server serves, and return the port of its metrics."""
        if not self._metrics_port:
            self.wait_until_serving()
        return self._metrics_port

    @property
    def engine(self) -> psutil.Process:
        """The process with the engine: Envoy, or the server's own."""
        return psutil.Process(self.engine_process_id)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the server's own process and to Envoy."""
        for pid in {self.engine.pid, self.process.pid}:
            os.kill(pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the server and return its exit status; data and log stay."""
        return self.terminate(number)

    def _launch(self, options: list[str], environment: Mapping[str, str], log: Path) -> Forked:
        return Forked(self._module[0], [*self._module[1:], *options], str(log), environment)
