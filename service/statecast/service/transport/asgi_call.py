"""One call over ASGI: reads the messages of an HTTP/2 stream, writes the answers, and notices when its caller goes."""

import asyncio
import logging
import math
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio
from google.rpc import status_pb2

from statecast.service.access.principal import ANYBODY
from statecast.service.engine.request import Request
from statecast.service.errors import ServiceError
from statecast.service.rpc.methods import Method
from statecast.service.rpc.status import DETAILS_KEY, to_status
from statecast.service.transport.arriving import Arriving
from statecast.service.transport.forwarded import FORWARDED, subject_in
from statecast.service.transport.framing import FramingError, Messages, framed, make_status, percent_encoded

if TYPE_CHECKING:  # an optional extra
    from statecast.service.tracing.spans import CallTrace

log = logging.getLogger(__name__)

Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]

CONTENT_TYPE = b"application/grpc"
_HEADERS = [(b"content-type", CONTENT_TYPE), (b"grpc-accept-encoding", b"identity, gzip")]
_START = {"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": True}
END = {"type": "http.response.body", "body": b"", "more_body": False}
_OK = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")], "more_trailers": False}
CALL_BYTES = 2048
"""Memory that an open call is counted with, beside its headers."""
MESSAGE_SECONDS = 60.0
"""Longest wait for the rest of a message, or for the only message of a call."""
LOOK_SECONDS = 0.5
"""How often calls are looked at; a call whose caller may have gone at twice its age, since each look costs."""


class Call:
    """One call; implements rpc.methods.StreamContext."""

    def __init__(
        self,
        client: tuple[str, int] | None,
        headers: Mapping[bytes, bytes],
        timeout_seconds: float | None,
        receive: Receive,
        send: Send,
        messages: Messages,
        arriving: Arriving,
        method: Method,
    ) -> None:
        self.principal = ANYBODY
        self.asked: Request | None = None
        self.trace: CallTrace | None = None
        self._peer, self._headers = "{}:{}".format(*client) if client else "unix:", headers
        self._traceparent = headers.get(b"traceparent")
        self._receive, self._send = receive, send
        self._messages, self._arriving, self._method = messages, arriving, method
        self._kept = CALL_BYTES + sum(len(name) + len(value) for name, value in headers.items())
        arriving.change(self._peer, self._kept)
        self._accounted = 0
        self._waited, self._waits_since = 0.0, math.inf  # seconds for this message so far; inf: does not wait
        self._task = asyncio.current_task()
        self._event: asyncio.Future[Event] | None = None
        self._has_event: asyncio.Future[None] | None = None
        # A stream must not stay open for nothing, unless it is of a known caller that may say more at any time.
        self._has_first_to_come = method.is_stream and (method.admit is None or method.asks_once)
        self._began = time.monotonic()
        self._look_at = self._began + LOOK_SECONDS
        self._has_body, self._has_started = True, False
        self._is_over = self._has_gone = False
        self._ended: status_pb2.Status | None = None
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if timeout_seconds is not None:
            self._until = time.monotonic() + timeout_seconds
            self._timer = asyncio.get_running_loop().call_later(timeout_seconds, self._expire)

    def peer(self) -> str:
        """Return the address of the caller's connection."""
        return self._peer

    def authorization(self) -> str | None:
        """Return the header `authorization`; None without one."""
        return self.header("authorization")

    def header(self, name: str) -> str | None:
        """Return a header by its lower-case name, until the call is admitted; None without it."""
        value = self._headers.get(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def subject(self) -> str | None:
        """Return the subject of the caller's certificate; None without one."""
        return subject_in(self._headers.get(FORWARDED, b""))

    def traceparent(self) -> str | None:
        """Return the header `traceparent`; None without one."""
        return None if self._traceparent is None else self._traceparent.decode("latin-1")

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None without one."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    async def answer(self) -> None:
        """Answer the call, unless its caller goes first."""
        try:
            answered = self._admit() or await (self._stream() if self._method.is_stream else self._unary())
        except FramingError as error:
            answered = error.status
        except asyncio.CancelledError:
            if self._has_gone:
                return
            if self._ended is None:
                raise
            answered = self._ended
        except Exception as error:  # too much is arriving, or a bug; the caller still needs an answer
            if not isinstance(error, ServiceError):
                log.exception("a call failed")
            answered = to_status(error)
        self._is_over = True
        with suppress(OSError):  # the caller has gone before its answer
            if isinstance(answered, status_pb2.Status):
                await self._refuse(answered)
            else:
                await self._finish(answered)

    def _admit(self) -> status_pb2.Status | None:
        """Return the status of a call that is refused; its headers are needed no longer."""
        refusal = self._method.admit(self) if self._method.admit else None
        self._headers = {}
        self._arriving.change(self._peer, CALL_BYTES - self._kept)
        self._kept = CALL_BYTES
        return refusal

    async def _unary(self) -> bytes | status_pb2.Status:
        return await self._method.answer(await self._request(), self)

    async def _request(self) -> Any:
        """Return the only message, decoded by `Method.decode`."""
        body = await self._part()
        message = None if self._has_body else self._messages.only(body)
        if message is None:
            self._messages.feed(body)
            message = await self._whole_message()
        return self._method.decode(message)

    async def _stream(self) -> bytes | status_pb2.Status:
        self._has_started = True
        await self._send(_START)
        return await self._method.answer(None, self)

    async def _finish(self, answered: bytes) -> None:
        """Send the answer of a unary call, or end a stream."""
        if self._has_started:
            await self._send(END)
        else:
            await self._send(_START)
            await self._send({"type": "http.response.body", "body": framed(answered), "more_body": False})
        await self._send(_OK)

    async def _refuse(self, status: status_pb2.Status) -> None:
        await refuse(self._send, status, has_started=self._has_started)

    async def read(self) -> Any:
        """Return the next message, decoded by `Method.decode`, or grpc.aio.EOF.

        Raises:
            Overloaded: if too much is arriving.
        """
        try:
            while (message := self._messages.next()) is None:
                if not self._has_body:
                    self._messages.check_end()
                    return grpc.aio.EOF
                await self._feed()
        except FramingError as error:
            self.end(error.status)
            raise asyncio.CancelledError from error
        self._account()
        self._waited, self._has_first_to_come = 0.0, False
        return self._method.decode(message)

    async def write(self, message: bytes) -> None:
        """Send a message; return once there is room for it."""
        sent = asyncio.ensure_future(
            self._send({"type": "http.response.body", "body": framed(message), "more_body": True})
        )
        sent.add_done_callback(_forget)
        try:
            await asyncio.shield(sent)  # the ASGI server sets its result, even if this call is cancelled
        except OSError as error:
            self._leave()
            raise asyncio.CancelledError from error

    def end(self, status: status_pb2.Status) -> None:
        """End the call with a status."""
        if self._ended is None and not self._is_over:
            self._ended = status
            self._cancel()

    def look(self) -> None:
        """End the call if the rest of a message has not come for a long time, or its caller has gone."""
        now = time.monotonic()
        if not self._has_body and now >= self._look_at:
            # Once the body has ended, the next event comes at once; it tells whether the caller is still there.
            self._look_at = now + (now - self._began)
            self._expect()
        if self._waiting_seconds() > MESSAGE_SECONDS:
            what = f"{self._messages.nbytes} bytes of a message have come, and the rest has not within"
            self.end(make_status(grpc.StatusCode.DEADLINE_EXCEEDED, f"{what} {MESSAGE_SECONDS:g} s"))

    def _waiting_seconds(self) -> float:
        return self._waited + max(0.0, time.monotonic() - self._waits_since)

    def close(self) -> None:
        """Forget the timer, and what has arrived."""
        self._is_over = True
        self._arriving.change(self._peer, -self._accounted - self._kept)
        if self._timer is not None:
            self._timer.cancel()

    async def _whole_message(self) -> bytes:
        """Return the only message of a body in several chunks."""
        message = self._messages.next()
        while self._has_body:
            if message is not None:
                self._messages.check_end()
            await self._feed()
            message = self._messages.next() if message is None else message
        self._messages.check_end()
        if message is None:
            raise FramingError(grpc.StatusCode.INTERNAL, "the body holds no message")
        self._account()
        return message

    async def _feed(self) -> None:
        """Wait for the next part of the body."""
        self._account()
        self._messages.feed(await self._part())

    def _account(self) -> None:
        nbytes = self._messages.nbytes - self._accounted
        if nbytes:
            self._arriving.change(self._peer, nbytes)
            self._accounted += nbytes

    async def _part(self) -> bytes:
        """Return the next part of the body. A reader that is cancelled loses none."""
        arriving = self._event or self._expect()
        if not arriving.done():
            if self._messages.nbytes or not self._method.is_stream or self._has_first_to_come:
                self._waits_since = time.monotonic()
            # The event itself must not be cancelled: the ASGI server sets its result.
            self._has_event = asyncio.get_running_loop().create_future()
            await self._has_event
            self._waited, self._waits_since = self._waiting_seconds(), math.inf
        event = arriving.result()
        if event["type"] == "http.disconnect":
            raise asyncio.CancelledError
        self._event = None
        self._has_body = event["more_body"]
        if self._has_body and self._method.is_stream:
            self._expect()  # so that a caller that leaves is noticed, whether or not more is read
        body: bytes = event["body"]
        return body

    def _expect(self) -> "asyncio.Future[Event]":
        """Ask for the next event, which may be that the caller has gone."""
        # Without any body it is not a future, but something else to wait for.
        self._event = asyncio.ensure_future(self._receive())
        self._event.add_done_callback(self._arrived)
        return self._event

    def _arrived(self, arriving: "asyncio.Future[Event]") -> None:
        has_gone = not arriving.cancelled() and arriving.result()["type"] == "http.disconnect"
        if has_gone:
            self._leave()
        elif self._has_event is not None and not self._has_event.done():
            self._has_event.set_result(None)

    def _leave(self) -> None:
        """Cancel the call: its caller has gone."""
        if not self._is_over:
            self._has_gone = True
            self._cancel()

    def _cancel(self) -> None:
        # A task that cancels itself, and then returns, ends with an error that the ASGI server does not expect.
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _expire(self) -> None:
        self.end(make_status(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed"))


def _forget(sent: "asyncio.Future[None]") -> None:
    """Take note of the error of a message that nobody waits for any more."""
    if not sent.cancelled():
        sent.exception()


async def refuse(send: Send, status: status_pb2.Status, *, has_started: bool) -> None:
    """End a call with a status and its details."""
    if not has_started:
        await send(_START)
    await send(END)
    headers = [(b"grpc-status", str(status.code).encode()), (b"grpc-message", percent_encoded(status.message))]
    if status.details:
        headers.append((DETAILS_KEY.encode(), b64encode(status.SerializeToString()).rstrip(b"=")))
    await send({"type": "http.response.trailers", "headers": headers, "more_trailers": False})
