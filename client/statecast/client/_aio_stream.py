"""One ForecastStream for all tasks of an AsyncClient: requests made at the same time share a frame.

Also runs endless requests concurrently and yields their results in order.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from ._bearer import AsyncBearer, Metadata
from ._outbox import Outbox
from ._request import Request
from ._response import Response, read_results
from .errors import Cancelled, DeadlineExceeded, ServerError, StatecastError, Unavailable, unreadable

R = TypeVar("R")
WINDOW = 256
"""Most requests of `AsyncClient.stream` in flight at once."""
LONGEST_READ_SECONDS = 0.001
"""Longest time in which an ordinary source is read without a pause, unless a single item takes longer."""


class _Waiting:
    """A request that waits for its answer; `until` is a time on the loop's clock."""

    __slots__ = ("answer", "timeout_seconds", "until")

    def __init__(self, answer: "asyncio.Future[Response]", until: float, timeout_seconds: float) -> None:
        self.answer, self.until, self.timeout_seconds = answer, until, timeout_seconds

    def __call__(self, result: Response | StatecastError) -> None:
        """Pass the result on."""
        if self.answer.done():
            return
        if isinstance(result, StatecastError):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


class AsyncStream:
    """A stream that is opened when there is something to send, and opened again after it has broken.

    It belongs to the running event loop.
    """

    def __init__(
        self,
        open_call: Callable[[Metadata], Any],
        bearer: AsyncBearer,
        note_failure: Callable[[StatecastError], None],
    ) -> None:
        self._open_call, self._bearer, self._loop = open_call, bearer, asyncio.get_running_loop()
        self._outbox: Outbox[_Waiting] = Outbox(note_failure)
        self._has_requests = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    async def ask(self, request: Request, timeout_seconds: float) -> Response:
        """Send one request and return the response.

        Raises:
            StatecastError: The server answered with an error, the stream broke, or no answer came in time.
        """
        if self._is_closed:
            raise StatecastError("the client is closed")
        loop = self._loop
        until = loop.time() + timeout_seconds
        waiting = _Waiting(loop.create_future(), until, timeout_seconds)
        key = self._outbox.put(request, timeout_seconds, waiting)
        if self._timer is None or until < self._timer.when():
            self._wake_at(until)
        self._has_requests.set()
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())
        try:
            return await waiting.answer
        finally:
            self._outbox.forget(key)

    def _wake_at(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(until, self._give_up)

    def _give_up(self) -> None:
        """Fail the requests whose time is up. One timer for all costs less than one for each answer."""
        self._timer, now = None, self._loop.time()
        every = self._outbox.waiting
        for waiting in every:
            if waiting.until <= now:
                waiting(DeadlineExceeded(f"no answer within {waiting.timeout_seconds:g} s"))
        if left := [waiting.until for waiting in every if waiting.until > now]:
            self._wake_at(min(left))

    async def close(self) -> None:
        """End the stream and fail all requests that still wait."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._outbox.fail(partial(Cancelled, "the client is closed"))  # the task may not have begun

    async def _run(self) -> None:
        """Read until the stream ends for any reason, then fail all requests that still wait."""
        make_error: Callable[[], StatecastError] = partial(Unavailable, "the server has ended the stream")
        call: Any = None
        metadata: Metadata = ()
        writer: asyncio.Task[None] | None = None
        try:
            metadata = await self._bearer.metadata()
            call = self._open_call(metadata)
            writer = asyncio.ensure_future(self._write(call))
            while (frame := await call.read()) is not grpc.aio.EOF:
                self._outbox.take(read_results(frame))
        except (grpc.RpcError, StatecastError) as error:
            make_error = partial(copy, self._bearer.failure(error, metadata))
        except asyncio.CancelledError:
            make_error = partial(Cancelled, "the client is closed")
            raise
        except DecodeError as error:
            make_error = partial(unreadable, error)
        except Exception as error:
            make_error = partial(_broken, error)
        finally:
            self._task = None
            for each in (writer, call):
                if each is not None:
                    each.cancel()
            self._outbox.fail(make_error)

    async def _write(self, call: Any) -> None:
        try:
            with suppress(grpc.RpcError, asyncio.InvalidStateError):  # the reader gets the error as well
                while True:
                    await self._has_requests.wait()
                    self._has_requests.clear()
                    while (frame := self._outbox.next_frame()) is not None:
                        await call.write(frame)
        except Exception as error:
            self._outbox.fail(partial(_broken, error))
            call.cancel()


def _broken(cause: Exception) -> StatecastError:
    """Return the error for all requests of a stream that broke for a lasting reason."""
    error = ServerError(f"the stream cannot be used: {cause!r}")
    error.outcome_unknown = True
    return error


async def in_order(
    items: AsyncIterable[Any] | Iterable[Any], start: Callable[[Any], Coroutine[Any, Any, R]]
) -> AsyncIterator[R]:
    """Start a task for each item as it comes, and yield the results in the order of the items."""
    under_way: deque[asyncio.Task[R]] = deque()
    has_room, has_more = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        try:
            async for item in _as_async(items):
                under_way.append(asyncio.ensure_future(start(item)))
                has_more.set()
                while len(under_way) >= WINDOW:
                    has_room.clear()
                    await has_room.wait()
        finally:
            has_more.set()

    reading = asyncio.ensure_future(read())
    try:
        while under_way or not reading.done():
            while under_way and under_way[0].done():
                yield under_way.popleft().result()
            has_room.set()
            if under_way:
                await asyncio.wait([under_way[0]])
            elif not reading.done():
                has_more.clear()
                await has_more.wait()
        await reading  # raises what the source has raised
    finally:
        for task in (reading, *under_way):
            task.cancel()


async def _as_async(items: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
        return
    loop = asyncio.get_running_loop()
    since = loop.time()
    for item in items:
        yield item
        if loop.time() - since > LONGEST_READ_SECONDS:
            await asyncio.sleep(0)  # lets the requests in flight go on
            since = loop.time()
