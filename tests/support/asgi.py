"""A caller over ASGI, without a server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import grpc
from google.rpc import status_pb2

from statecast.service.rpc.methods import Method
from statecast.service.rpc.status import STATUS_CODES
from statecast.service.transport.asgi import AsgiTransport

Answer = Callable[[Any, Any], Awaitable[bytes | status_pb2.Status]]
DISCONNECT = {"type": "http.disconnect"}
HEADERS = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


class Caller:
    """An ASGI server with one call; events can be given before and during it."""

    def __init__(self, answer: Answer, *, is_stream: bool = False, most: int = 1000, method: str = "/a.B/C") -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.has_gone = False
        self.left: list[str] = []
        methods = {method: Method(is_stream, lambda data: data, answer, lambda _: None)}
        self.transport = AsgiTransport(methods, most, 4 * most, self._listen, self._leave, lambda _: None)

    async def _listen(self) -> int:
        return 1234

    async def _leave(self) -> None:
        self.left.append("left")

    def _receive(self) -> "asyncio.Future[dict[str, Any]]":
        return asyncio.ensure_future(self.events.get())

    async def _send(self, event: Any) -> None:
        if self.has_gone:
            raise OSError
        self.sent.append(event)

    async def call(
        self,
        *events: dict[str, Any],
        headers: list[tuple[bytes, bytes]] = HEADERS,
        path: str = "/a.B/C",
        method: str = "POST",
        query: bytes = b"",
    ) -> None:
        for event in events:
            self.events.put_nowait(event)
        scope = {"type": "http", "method": method, "headers": headers, "client": ("10.0.0.1", 5)}
        scope |= {"path": unquote(path), "raw_path": path.encode(), "query_string": query}
        await self.transport.serve(scope, self._receive, self._send)

    @property
    def body(self) -> bytes:
        parts: list[bytes] = [event["body"] for event in self.sent if event["type"] == "http.response.body"]
        return b"".join(parts)

    @property
    def trailers(self) -> dict[bytes, bytes]:
        (found,) = (event["headers"] for event in self.sent if event["type"] == "http.response.trailers")
        return dict(found)

    @property
    def code(self) -> grpc.StatusCode:
        return STATUS_CODES[int(self.trailers[b"grpc-status"])]


async def echo(request: Any, context: Any) -> bytes:
    return bytes(request) + str(context.peer()).encode()


async def forever(request: Any, context: Any) -> bytes:
    await asyncio.Event().wait()
    return b""
