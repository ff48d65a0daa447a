"""Starts and replaces gRPC worker processes, which leave this process and its GIL to the engine."""

import asyncio
import dataclasses
import json
import logging
import signal
import socket
import sys
from collections.abc import Mapping

from statecast.service.edge.calls import Calls
from statecast.service.edge.link import LEFT_TO_THE_ENGINE, Kind, Link
from statecast.service.edge.transport import Place, claim
from statecast.service.errors import StartupError
from statecast.service.rpc.methods import Method

log = logging.getLogger(__name__)

READY_SECONDS = 30.0
AGAIN_SECONDS = 1.0
"""Delay before a worker that exited is replaced."""
MOST_SILENT = 10
"""Silent checks in a row, about one a second, before a worker is killed and replaced."""
STOP_SECONDS = 5.0
"""Wait beyond the grace period before a worker is killed."""


class Fronts:
    """A fixed number of worker processes that share a port; one that exits is replaced."""

    def __init__(self, place: Place, methods: Mapping[str, Method], count: int) -> None:
        """Reserve the port.

        Raises:
            StartupError: if the server cannot listen there.
        """
        self._claimed = claim(place)
        self.port = int(self._claimed.getsockname()[1])
        self._place = dataclasses.replace(place, port=self.port, is_shared=True)
        self._methods = methods
        self._count = count
        self._is_ready = True
        self._running: set[_Front] = set()
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all workers and wait until they serve.

        Raises:
            StartupError: if one cannot serve.
        """
        fronts = [_Front(self._place, self._methods) for _ in range(self._count)]
        self._running.update(fronts)
        results = await asyncio.gather(*(front.start() for front in fronts), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                await self.stop(0.0)
                raise result
        self._keepers = [asyncio.ensure_future(self._keep(front)) for front in fronts]

    async def set_ready(self, is_ready: bool) -> None:
        """Set the readiness that the workers' health service reports."""
        self._is_ready = is_ready
        for front in self._running:
            front.set_ready(is_ready)

    async def leave(self) -> None:
        """Report NOT_SERVING but keep serving; a worker that exits from now on is not replaced."""
        for keeper in self._keepers:
            keeper.cancel()
        for front in self._running:
            front.leave()

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, let those in flight finish within the grace period, and stop the workers."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*(front.stop(grace_seconds) for front in self._running))
        self._running.clear()
        self._claimed.close()

    async def _keep(self, front: "_Front") -> None:
        while True:
            status = await front.ended()
            log.error("a gRPC worker exited with status %d; its clients must retry while it is replaced", status)
            self._running.discard(front)
            await asyncio.sleep(AGAIN_SECONDS)
            front = _Front(self._place, self._methods)
            self._running.add(front)
            try:
                await front.start()
                front.set_ready(self._is_ready)
            except StartupError as error:
                log.error("the gRPC worker could not be replaced, trying again: %s", error)
                await front.stop(0.0)


class _Front:
    """One worker process, as the engine process sees it."""

    def __init__(self, place: Place, methods: Mapping[str, Method]) -> None:
        hello = {
            "place": dataclasses.asdict(place),
            "methods": [(path, method.is_stream) for path, method in methods.items()],
        }
        self._hello = json.dumps(hello).encode()
        self._process: asyncio.subprocess.Process | None = None
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._link = Link(self._received, self._lost)
        self._calls = Calls(list(methods.values()), self._link)
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the worker and wait until it serves.

        Raises:
            StartupError: if it cannot serve.
        """
        try:
            self._process, ours = await _spawn()
            await asyncio.get_running_loop().create_unix_connection(lambda: self._link, sock=ours)
        except OSError as error:
            raise StartupError(f"cannot start a gRPC worker: {error.strerror}; use fewer --workers") from error
        self._link.send(Kind.HELLO, 0, self._hello)
        try:
            problem = await asyncio.wait_for(asyncio.shield(self._ready), READY_SECONDS)
        except TimeoutError:
            problem = f"a gRPC worker is not ready after {READY_SECONDS:g} s; use fewer --workers"
        if problem:
            raise StartupError(problem)
        self._watch = asyncio.ensure_future(self._kill_if_silent())

    async def _kill_if_silent(self) -> None:
        """Kill a worker that hangs, so that new connections go to the others."""
        await self._link.silence(MOST_SILENT, ask=False)
        log.error("a gRPC worker hangs; killing it")
        self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def ended(self) -> int:
        """Wait for the process to exit; return its exit status."""
        return await self._process.wait() if self._process else 0

    def set_ready(self, is_ready: bool) -> None:
        self._link.send(Kind.IS_READY, 0, json.dumps(is_ready).encode())

    def leave(self) -> None:
        self._link.send(Kind.LEAVE)

    async def stop(self, grace_seconds: float) -> None:
        self._link.send(Kind.STOP, 0, json.dumps(grace_seconds).encode())
        try:
            await asyncio.wait_for(self.ended(), grace_seconds + STOP_SECONDS)
        except TimeoutError:
            log.warning("a gRPC worker did not stop in time; killing it")
            self._kill()
            await self.ended()
        self._link.close()

    def _received(self, kind: int, number: int, body: bytes) -> None:
        if kind == Kind.ARE_YOU_THERE:
            self._link.send(Kind.HERE_I_AM)
        elif kind != Kind.READY:
            self._calls.received(kind, number, body)
        elif not self._ready.done():
            self._ready.set_result(body.decode())

    def _lost(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if not self._ready.done():
            self._ready.set_result("a gRPC worker exited before it was ready")
        self._calls.cancel()


async def _spawn() -> tuple[asyncio.subprocess.Process, socket.socket]:
    """Start a worker process; return it and this end of the socket to it."""
    ours, theirs = socket.socketpair()
    # Until the worker ignores these signals itself, it must not die of one sent to the whole process group.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_ENGINE)
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "statecast.service.edge.front", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
    except BaseException:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process, ours
