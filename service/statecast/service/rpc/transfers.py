"""The open ExportSessions and ImportSessions calls: their number, their end, and the thread that works for them."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from statecast.service.access.gate import Gate
from statecast.service.access.principal import Principal
from statecast.service.access.quotas import Quotas, exceeded
from statecast.service.errors import Overloaded, ServiceError, Unavailable
from statecast.service.rpc.methods import StreamContext
from statecast.v1.reasons import Reason

MOST_AT_ONCE, MOST_OF_A_TENANT = 8, 2
"""Each may hold a message and its records in memory, and they share one thread."""
AGAIN_SECONDS = 1.0
"""Retry delay for a call beyond these, and for sessions beyond a limit of the tenant."""

P = ParamSpec("P")
T = TypeVar("T")


class OpenTransfer:
    """One call."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self._away: asyncio.Future[ServiceError] = asyncio.get_running_loop().create_future()

    def leave(self, error: ServiceError) -> None:
        """End the call before its next message; `error` tells the caller why."""
        if not self._away.done():
            self._away.set_result(error)

    def check(self) -> None:
        """Raise the error of a call that must end."""
        if self._away.done():
            raise self._away.result()

    async def read(self, context: StreamContext) -> Any:
        """Return the next message, or grpc.aio.EOF.

        Raises:
            ServiceError: if the call must end.
        """
        return await self._wait(context.read())

    async def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            ServiceError: if the call must end.
        """
        await self._wait(asyncio.sleep(seconds))

    async def _wait(self, what: Awaitable[T]) -> T:
        self.check()
        waiting = asyncio.ensure_future(what)
        try:
            either: set[asyncio.Future[Any]] = {waiting, self._away}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            self.check()
            return await waiting
        finally:
            waiting.cancel()


class Transfers:
    """All such calls; a shutdown ends them, and the end of their caller's credential."""

    def __init__(self, gate: Gate, quotas: Quotas) -> None:
        self._gate, self._quotas = gate, quotas
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transfer")
        self._open: set[OpenTransfer] = set()
        self._is_leaving = False

    @contextmanager
    def opened(self, principal: Principal) -> Iterator[OpenTransfer]:
        """Count a call until it ends.

        Raises:
            Overloaded: if there are too many.
            Unavailable: if the server shuts down.
        """
        if self._is_leaving:
            raise _leaving()
        own = sum(each.principal.tenant == principal.tenant for each in self._open)
        if own >= MOST_OF_A_TENANT or len(self._open) >= MOST_AT_ONCE:
            raise Overloaded(
                f"{len(self._open)} exports and imports are under way, {own} of them of your tenant; wait until one "
                "has ended",
                Reason.STREAMS_FULL,
                AGAIN_SECONDS,
            )
        opened = OpenTransfer(principal)
        self._open.add(opened)
        try:
            yield opened
        finally:
            self._open.discard(opened)

    def leave(self) -> None:
        """End each call with a retryable error, once it has answered what it has read."""
        self._is_leaving = True
        for each in self._open:
            each.leave(_leaving())

    def look(self) -> None:
        """End the calls whose callers may not go on."""
        for each in self._open:
            if refusal := self._gate.refusal(each.principal):
                each.leave(refusal)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Let the thread work."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))

    async def charge(self, opened: OpenTransfer) -> None:
        """Count a request; wait while the tenant has reached its limit.

        Raises:
            ServiceError: if the call must end.
        """
        while self._quotas.is_active:
            try:
                self._quotas.take(opened.principal.tenant, 0)
                return
            except Overloaded as error:
                seconds = error.retry_after_seconds
            await opened.pause(seconds)

    def full(self, tenant: str) -> ServiceError | None:
        """Return the error for new sessions of a tenant that may have no more; None if it may."""
        if not self._quotas.is_active or not self._quotas.sessions_are_full(tenant):
            return None
        return exceeded(tenant, "sessions", self._quotas.of(tenant).sessions, math.ceil(AGAIN_SECONDS))

    def count_new(self, tenant: str, sessions: int) -> None:
        """Count sessions that were imported."""
        if self._quotas.is_active:
            for _ in range(sessions):
                self._quotas.opened(tenant)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)


def _leaving() -> Unavailable:
    return Unavailable(
        "the server is shutting down; open another stream, and go on with what has not been answered", Reason.DRAINING
    )
