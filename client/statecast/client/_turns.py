"""Turns: calls of one session run one after the other."""

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext

from . import _operations


class SessionLock(asyncio.Lock):
    """The lock of a session; `wanted` counts the calls that hold it or wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = 0


class Turn:
    """A context that holds the locks of some sessions, by id.

    Raises:
        DeadlineExceeded: The locks were not free within `timeout_seconds`.
    """

    def __init__(self, locks: Mapping[str, SessionLock], timeout_seconds: float) -> None:
        self._locks, self._timeout_seconds = locks, timeout_seconds
        self._held: list[SessionLock] = []

    async def __aenter__(self) -> None:
        are_free = not any(lock.wanted for lock in self._locks.values())
        for lock in self._locks.values():
            lock.wanted += 1
        try:
            # Usually nobody holds or wants the locks: nothing can come in between, so no timer is needed.
            async with nullcontext() if are_free else asyncio.timeout(self._timeout_seconds):
                for session_id in sorted(self._locks):  # one order for all: no two calls wait for each other
                    await self._locks[session_id].acquire()
                    self._held.append(self._locks[session_id])
        except BaseException as error:
            self._leave()
            if isinstance(error, TimeoutError):
                raise _operations.kept_waiting(session_id, self._timeout_seconds) from error
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        for lock in self._locks.values():
            lock.wanted -= 1
        for lock in self._held:
            lock.release()
