"""Requests as an ASGI server hands them over become calls of the methods: gRPC, or HTTP/JSON."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from statecast.service.access.certificates import Certificates
from statecast.service.errors import Overloaded, quoted
from statecast.service.rpc.methods import Method
from statecast.service.rpc.status import to_status
from statecast.service.transport.arriving import Arriving
from statecast.service.transport.asgi_call import CONTENT_TYPE, END, LOOK_SECONDS, Call, Receive, Send, refuse
from statecast.service.transport.framing import FramingError, Messages, make_status, timeout_seconds
from statecast.service.transport.http_json import call as http_json
from statecast.service.transport.http_json.routes import NoRoute, Routes

CONTENT_TYPES = (CONTENT_TYPE, b"application/grpc+proto")
_NOT_GRPC = {
    "type": "http.response.start",
    "status": 415,
    "headers": [(b"content-type", b"text/plain"), (b"accept-post", CONTENT_TYPE)],
}
_NOT_GRPC_BODY = {
    "type": "http.response.body",
    "body": b"gRPC is a POST with content-type application/grpc and te: trailers, or gRPC-Web.\n",
    "more_body": False,
}
_NOT_JSON = make_status(
    grpc.StatusCode.INVALID_ARGUMENT, "content-type: must be application/json here; add it to the request's headers"
)
_COMPRESSED = make_status(
    grpc.StatusCode.INVALID_ARGUMENT, "content-encoding: HTTP/JSON takes no compressed body; send it as it is"
)
_CUT_SECONDS = 1.0
"""Time for calls that are cut off to tell their callers."""
STRANGERS_BYTES = 8 * 1024 * 1024
"""Memory for the open calls of methods that admit everybody."""


class AsgiTransport:
    """Calls of these methods, by path, that an ASGI server passes to `serve`."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        max_message_bytes: int,
        max_arriving_bytes: int,
        listen: Callable[[], Awaitable[int]],
        leave: Callable[[], Awaitable[None]],
        renew: Callable[[Certificates], None],
    ) -> None:
        """Answer nothing yet.

        Args:
            methods: The methods by path.
            max_message_bytes: The largest accepted message.
            max_arriving_bytes: Limit for all messages that have arrived in part.
            listen: Waits until the ASGI server listens and returns its port.
            leave: Makes the ASGI server tell its clients to connect elsewhere.
            renew: Makes the ASGI server show other certificates to new connections.
        """
        self._methods, self._routes = methods, Routes(methods)
        self._max_message_bytes = max_message_bytes
        self._arriving, self._arriving_of_strangers = Arriving(max_arriving_bytes), Arriving(STRANGERS_BYTES)
        self._listen, self._leave = listen, leave
        self.renew = renew
        self._calls: set[Call] = set()
        self._is_idle = asyncio.Event()
        self._is_leaving = False
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Wait until calls come in; return the port."""
        self._looking = asyncio.ensure_future(self._look_after_calls())
        return await self._listen()

    async def stop(self, grace_seconds: float) -> None:
        """Send callers elsewhere, and let the calls in flight finish within the grace period."""
        deadline = time.monotonic() + grace_seconds
        if self._looking is not None:
            self._looking.cancel()
        if not self._is_leaving:
            self._is_leaving = True
            await self._leave()
        await self._until_idle(deadline)
        for call in tuple(self._calls):
            call.end(make_status(grpc.StatusCode.UNAVAILABLE, "the server is shutting down"))
        await self._until_idle(deadline + _CUT_SECONDS)

    async def _until_idle(self, deadline: float) -> None:
        """Wait until no call is in flight; further ones may come until every client has heard that it should go."""
        while self._calls and (left := deadline - time.monotonic()) > 0:
            self._is_idle.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), left)

    async def _look_after_calls(self) -> None:
        """End the calls whose messages do not come, and those whose callers have gone."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for call in tuple(self._calls):
                call.look()

    async def serve(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one call."""
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if not kind.startswith(CONTENT_TYPE):
            call = await self._json_call(scope, headers, kind, receive, send)
        elif scope["method"] != "POST" or kind not in CONTENT_TYPES or headers.get(b"te") != b"trailers":
            await send(_NOT_GRPC)
            await send(END if scope["method"] == "HEAD" else _NOT_GRPC_BODY)
            return
        else:
            call = await self._grpc_call(scope, headers, receive, send)
        del scope, headers  # a call may last
        if call is not None:
            await self._answer(call)

    async def _answer(self, call: Call) -> None:
        self._calls.add(call)
        try:
            await call.answer()
        finally:
            call.close()
            self._calls.discard(call)
            if not self._calls:
                self._is_idle.set()

    async def _grpc_call(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> Call | None:
        """Return the call of a method; None if it is refused."""
        try:
            method = self._methods.get(scope["path"])
            if method is None:
                raise FramingError(grpc.StatusCode.UNIMPLEMENTED, f"there is no method {quoted(scope['path'])}")
            messages = Messages(headers.get(b"grpc-encoding", b""), self._max_message_bytes)
            arriving = self._arriving if method.admit else self._arriving_of_strangers
            return Call(scope["client"], headers, _timeout(headers), receive, send, messages, arriving, method)
        except (FramingError, Overloaded) as error:
            status = error.status if isinstance(error, FramingError) else to_status(error)
            await refuse(send, status, has_started=False)
        return None

    async def _json_call(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], kind: bytes, receive: Receive, send: Send
    ) -> Call | None:
        """Return the call of the method at a path of HTTP/JSON; None if it is refused."""
        try:
            asked = self._routes.find(scope["method"], scope["raw_path"].decode("latin-1"), scope["query_string"])
            if asked.route.has_body and kind != http_json.CONTENT_TYPE:
                # A page of another origin may send any other type without asking.
                await http_json.refuse(send, _NOT_JSON, 415)
                return None
            if headers.get(b"content-encoding", b"identity") != b"identity":
                await http_json.refuse(send, _COMPRESSED, 415)
                return None
            most, arriving = self._max_message_bytes, self._arriving
            timeout = _timeout(headers)
            return http_json.JsonCall(scope["client"], headers, timeout, receive, send, most, arriving, asked)
        except NoRoute as error:
            status = make_status(grpc.StatusCode.UNIMPLEMENTED, str(error))
            allow = ((b"allow", ", ".join(error.allowed).encode()),) if error.allowed else ()
            number = 405 if error.allowed else 404
            await http_json.refuse(send, status, number, allow, is_head=scope["method"] == "HEAD")
        except FramingError as error:  # of the header grpc-timeout
            await http_json.refuse(send, make_status(grpc.StatusCode.INVALID_ARGUMENT, error.status.message))
        except Overloaded as error:
            await http_json.refuse(send, to_status(error))
        return None


def _timeout(headers: Mapping[bytes, bytes]) -> float | None:
    """Return the seconds that the header grpc-timeout leaves; None without one."""
    timeout = headers.get(b"grpc-timeout")
    return None if timeout is None else timeout_seconds(timeout)
