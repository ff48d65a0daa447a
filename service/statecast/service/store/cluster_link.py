"""A connection to one node of a cluster, on which answers come in the order of the calls."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import BusyLoadingError, MovedError, NoScriptError, RedisError, ResponseError

from statecast.service.store.redis_url import Address
from statecast.service.store.scripts import Script, pack

_ASKING = pack("ASKING")


class Link:
    """A connection of its own, as the client of the node connects. Not thread-safe."""

    def __init__(self, address: Address, client: redis.Redis, timeout_seconds: float) -> None:
        self.address = address
        self.is_open = False
        self._connection: Any = client.connection_pool.make_connection()
        self._timeout_seconds = timeout_seconds
        self._known: set[str] = set()
        self._skips: deque[int] = deque()
        self._refusal: ResponseError | None = None
        self._sent_at: float | None = None

    def open(self) -> None:
        """Connect, unless the connection is open and idle.

        Raises:
            redis.RedisError: if the node cannot be reached.
        """
        if self.is_open and not self._is_idle():
            self.close()
        if not self.is_open:
            self._connection.connect()
            self.is_open = True

    def send(self, script: Script, calls: Sequence[tuple[bytes, bool]]) -> None:
        """Send calls in one go, each after ASKING if its slot is still on its way to this node.

        Raises:
            redis.RedisError: if that fails; some of the calls may have been sent.
        """
        parts: list[bytes] = []
        if script.digest not in self._known:
            parts.append(pack("SCRIPT", "LOAD", script.text))
            self._known.add(script.digest)
        skipped = len(parts)
        for command, is_asking in calls:
            if is_asking:
                parts.append(_ASKING)
            parts.append(command)
            self._skips.append(skipped + is_asking)
            skipped = 0
        self._refusal, self._sent_at = None, time.monotonic()
        try:
            self._connection.send_packed_command([b"".join(parts)])
        except BaseException:
            self.close()
            raise

    def read(self) -> Any:
        """Return the answer to the next call; an error that the node answers with is returned, not raised.

        Raises:
            redis.RedisError: if no answer comes.
        """
        try:
            for _ in range(self._skips.popleft()):
                if isinstance(answer := self._next(), ResponseError):  # of SCRIPT LOAD, or of ASKING
                    self._refusal = answer
            answer = self._next()
        except BaseException:
            self.close()  # else the next call might read this call's answers
            raise
        if isinstance(answer, NoScriptError):
            self._known.clear()
        return self._refusal if self._refusal and isinstance(answer, NoScriptError | MovedError) else answer

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.disconnect()
        self.is_open = False
        self._known.clear()
        self._skips.clear()

    def _next(self) -> Any:
        if self._sent_at is not None:  # once for all answers, since it takes time
            left = self._sent_at + self._timeout_seconds - time.monotonic()
            if not self._connection.can_read(max(0.0, left)):
                raise redis.TimeoutError(f"{self.address} does not answer")
            self._sent_at = None
        try:
            return self._connection.read_response(disconnect_on_error=False)
        except (ResponseError, BusyLoadingError) as error:
            return error

    def _is_idle(self) -> bool:
        try:
            return not self._connection.can_read()
        except RedisError:
            return False
