"""Turns: calls of one session run one after the other."""

import asyncio
from collections.abc import Mapping

from . import _operations


class SessionLock(asyncio.Lock):
    """The lock of a session.

    Attributes:
        home: The locks of the same client and loop.
        wanted: Number of calls that hold it or wait for it.
    """

    def __init__(self, home: object = None) -> None:
        super().__init__()
        self.home, self.wanted = home, 0


class Turn:
    """A turn, which holds the locks of some sessions, by id."""

    def __init__(self, locks: Mapping[str, SessionLock], timeout_seconds: float) -> None:
        self._locks, self._timeout_seconds = locks, timeout_seconds
        self._held: list[SessionLock] = []

    async def begin(self) -> None:
        """Wait for the locks, and hold them.

        Raises:
            DeadlineExceeded: They were not free within `timeout_seconds`.
        """
        locks = self._locks.values()
        is_free = True
        for lock in locks:
            is_free = is_free and not lock.wanted
            lock.wanted += 1
        if not is_free:
            await self._wait()
            return
        for lock in locks:  # nobody holds or wants them: this does not wait, and needs neither timer nor order
            await lock.acquire()
        self._held.extend(locks)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for session_id in sorted(self._locks):  # one order for all: no two calls wait for each other
                    await self._locks[session_id].acquire()
                    self._held.append(self._locks[session_id])
        except BaseException as error:
            self.end()
            if isinstance(error, TimeoutError):
                raise _operations.kept_waiting(session_id, self._timeout_seconds) from error
            raise

    def end(self) -> None:
        """Let others have their turn."""
        for lock in self._locks.values():
            lock.wanted -= 1
        for lock in self._held:
            lock.release()
