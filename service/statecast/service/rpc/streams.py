"""Streams of requests and results, both bounded, whatever the messages that carry them."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc.aio
from google.protobuf.message import DecodeError

from statecast.service.access.gate import Gate
from statecast.service.access.principal import Principal
from statecast.service.access.quotas import Quotas, exceeded
from statecast.service.engine.admission import may_take
from statecast.service.errors import Overloaded, ServiceError, Unavailable
from statecast.service.rpc.engine_client import Call
from statecast.service.rpc.frames import Emit
from statecast.service.rpc.methods import Context, StreamContext, undecodable
from statecast.v1.reasons import Reason

MAX_REQUESTS_UNDER_WAY = 2048
MAX_BYTES_UNDER_WAY = 4 * 1024 * 1024
"""Limits for one stream's requests that are queued or whose results are unwritten; beyond, reading stops."""
STREAMS_AGAIN_SECONDS = 1.0
"""Retry delay for a tenant that has all the streams that it may have."""
MAX_RESULT_BYTES_A_FRAME = 1024 * 1024


class Queue(Protocol):
    """The requests of one message."""

    @property
    def is_done(self) -> bool:
        """True if every request has been answered."""

    def add(self, position: int, message: Any) -> int:
        """Accept a request, to be queued by `flush`; return the approximate memory that it takes."""

    def flush(self) -> None:
        """Queue the requests accepted since the last flush."""

    def abandon(self) -> None:
        """Settle unanswered requests as cancelled: the caller has gone."""


class Dialect(Protocol):
    """The messages of one stream. At most `most_results` results go into one."""

    most_results: int

    def requests(self, message: Any) -> Sequence[Any]:
        """Return the requests in a message, or raise InvalidRequest if it is too large."""

    def frame(self) -> Queue:
        """Return what queues and answers the requests of the next message."""

    def encode(self, results: list[bytes]) -> bytes:
        """Return the message with these results."""


MakeDialect = Callable[[Context, Call, Emit, Callable[[], bool]], Dialect]
"""Makes the dialect of a call: given what receives results, and what tells whether the caller has gone."""


class Streams:
    """All open streams, at most `limit`; a shutdown ends them, and the end of their caller's credential."""

    def __init__(self, limit: int, max_bytes: int, gate: Gate, quotas: Quotas) -> None:
        """Allow so many streams, whose requests under way may take about `max_bytes` in all."""
        self._limit = limit
        self._room = _Room(max_bytes)
        self._gate, self._quotas = gate, quotas
        self._open: set[_Stream] = set()
        self._open_by_caller: Counter[str] = Counter()
        self._open_by_tenant: Counter[str] = Counter()
        self._leaving = False

    def open_by_tenant(self) -> dict[str, int]:
        """Return the number of open streams of each tenant that has any; for any thread."""
        return dict(self._open_by_tenant)

    def leave(self) -> None:
        """Read no more requests; each stream ends with a retryable error once it has answered those it has read."""
        self._leaving = True
        for stream in self._open:
            stream.leave(_leaving())

    def look(self) -> None:
        """End the streams whose callers may not go on, as `leave` does."""
        for stream in self._open:
            if refusal := self._gate.refusal(stream.principal):
                stream.leave(refusal)

    async def serve(self, context: StreamContext, make_dialect: MakeDialect) -> None:
        """Serve one stream to its end.

        Raises:
            ServiceError: if too many streams are open, a frame is invalid, or the server shuts down.
        """
        if self._leaving:
            raise _leaving()
        caller = context.peer()
        own = self._open_by_caller[caller]
        if not may_take(own, self._limit - len(self._open)):
            raise Overloaded(
                f"{len(self._open)} streams are open, {own} of them on this connection; use one stream for many "
                "sessions, close one, or call another replica",
                Reason.STREAMS_FULL,
            )
        self._check_quota(context.principal.tenant)
        stream = _Stream(context, make_dialect, self._room)
        self._open.add(stream)
        counts = ((self._open_by_caller, caller), (self._open_by_tenant, context.principal.tenant))
        for counter, name in counts:
            counter[name] += 1
        try:
            await stream.serve()
        finally:
            self._open.discard(stream)
            for counter, name in counts:
                counter[name] -= 1
                if not counter[name]:
                    del counter[name]
        if stream.sent_away:
            raise stream.sent_away

    def _check_quota(self, tenant: str) -> None:
        most = self._quotas.of(tenant).streams
        if self._open_by_tenant[tenant] >= most:
            raise exceeded(tenant, "streams", most, STREAMS_AGAIN_SECONDS)


class _Room:
    """Memory of the requests under way on all streams. A stream with none may always read one."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._waiting: set[asyncio.Event] = set()

    @property
    def is_left(self) -> bool:
        """True if a stream with requests under way may read another."""
        return self._left > 0

    def take(self, nbytes: int) -> None:
        """Take some of it, or give some back, which wakes the streams that wait."""
        self._left -= nbytes
        if nbytes < 0:
            for has_room in self._waiting:
                has_room.set()
            self._waiting.clear()

    def wake(self, has_room: asyncio.Event) -> None:
        """Set the event as soon as some is given back."""
        self._waiting.add(has_room)


class _Stream:
    """One stream: a task that reads requests, and one that writes results."""

    def __init__(self, context: StreamContext, make_dialect: MakeDialect, room: _Room) -> None:
        self._room = room
        self._context = context
        self._call = Call.of(context)
        self._dialect = make_dialect(context, self._call, self._emit, lambda: self._is_over)
        self._frames: deque[Queue] = deque()
        self._results: deque[tuple[bytes, int]] = deque()
        self._requests_under_way = self._bytes_under_way = 0
        self._has_results, self._has_room = asyncio.Event(), asyncio.Event()
        self._is_reading, self._is_over = True, False
        self._reader = asyncio.ensure_future(self._read())
        self.sent_away: ServiceError | None = None

    @property
    def principal(self) -> Principal:
        """The caller."""
        return self._call.principal

    def leave(self, error: ServiceError) -> None:
        """Stop reading; `error` tells the caller why."""
        self.sent_away = self.sent_away or error
        self._reader.cancel()

    async def serve(self) -> None:
        """Read and write until the caller ends the stream or sends an invalid frame, and has every result.

        An error waits for the writer: a call cannot end while a message is being sent.
        """
        writer = asyncio.ensure_future(self._write())
        try:
            await writer
            if not self._reader.cancelled():
                await self._reader
        finally:
            self._is_over = True
            for task in (self._reader, writer):
                task.cancel()
            await asyncio.gather(self._reader, writer, return_exceptions=True)
            for frame in self._frames:
                frame.abandon()
            self._take(-self._bytes_under_way)

    async def _read(self) -> None:
        try:
            while (message := await self._context.read()) is not grpc.aio.EOF:
                if isinstance(message, DecodeError):
                    raise undecodable(message)
                requests, frame = self._dialect.requests(message), self._dialect.frame()
                self._frames.append(frame)
                while self._frames[0].is_done and len(self._frames) > 1:
                    self._frames.popleft()
                for position, request in enumerate(requests):
                    if not self._has_room_now():
                        frame.flush()
                        await self._await_room()
                    self._requests_under_way += 1
                    self._take(frame.add(position, request))
                frame.flush()
        finally:
            self._is_reading = False
            self._has_results.set()

    def _has_room_now(self) -> bool:
        has_own = self._requests_under_way < MAX_REQUESTS_UNDER_WAY and self._bytes_under_way < MAX_BYTES_UNDER_WAY
        return has_own and (self._room.is_left or not self._bytes_under_way)

    def _take(self, nbytes: int) -> None:
        self._bytes_under_way += nbytes
        self._room.take(nbytes)

    async def _await_room(self) -> None:
        while not self._has_room_now():
            self._has_room.clear()
            self._room.wake(self._has_room)
            await self._has_room.wait()

    def _emit(self, position: int, result: bytes, nbytes: int) -> None:
        self._results.append((result, nbytes))
        self._has_results.set()

    async def _write(self) -> None:
        while self._is_reading or self._requests_under_way:
            await self._has_results.wait()
            self._has_results.clear()
            while self._results:
                frame = self._next_frame()
                # Waits until the transport has room, so a caller that does not read stops its own stream.
                await self._context.write(self._dialect.encode([result for result, _ in frame]))
                self._requests_under_way -= len(frame)
                self._take(-sum(nbytes for _, nbytes in frame))
                self._has_room.set()

    def _next_frame(self) -> list[tuple[bytes, int]]:
        frame = [self._results.popleft()]
        room = MAX_RESULT_BYTES_A_FRAME - frame[0][1]
        while self._results and len(frame) < self._dialect.most_results and self._results[0][1] <= room:
            frame.append(self._results.popleft())
            room -= frame[-1][1]
        return frame


def _leaving() -> Unavailable:
    return Unavailable(
        "the server is shutting down; open another stream and send the unanswered requests again",
        Reason.DRAINING,
    )
