"""One call over HTTP/JSON: the body is the request, the answer the response or a google.rpc.Status."""

import math
from collections.abc import Mapping
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from statecast.service.transport.arriving import Arriving
from statecast.service.transport.asgi_call import Call, Receive, Send
from statecast.service.transport.framing import FramingError, Messages
from statecast.service.transport.http_json.routes import Asked
from statecast.service.transport.http_json.writing import chunks, encoded, to_value

CONTENT_TYPE = b"application/json"
MOST_BYTES = 4 * 1024 * 1024
"""A larger body would hold the event loop up for too long."""
CHUNK_BYTES = 64 * 1024
HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""As google/rpc/code.proto says."""
_BY_NUMBER = {code.value[0]: number for code, number in HTTP_STATUS.items()}
TOO_LARGE = 413
_HEADERS = ((b"content-type", CONTENT_TYPE), (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Body(Messages):
    """The body of a request, which is not framed."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(b"", max_bytes)

    def feed(self, chunk: bytes) -> None:
        """Add the next chunk.

        Raises:
            FramingError: if the body is too large.
        """
        if self.nbytes + len(chunk) > self._max_bytes:
            raise FramingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the body is larger than the {self._max_bytes} bytes that HTTP/JSON may have; send less at once, or "
                "use gRPC",
            )
        super().feed(chunk)

    def whole(self) -> bytes:
        """Return everything that has come."""
        return bytes(self._buffer)


class JsonCall(Call):
    """One call over HTTP/JSON."""

    def __init__(
        self,
        client: tuple[str, int] | None,
        headers: Mapping[bytes, bytes],
        timeout_seconds: float | None,
        receive: Receive,
        send: Send,
        max_message_bytes: int,
        arriving: Arriving,
        asked: Asked,
    ) -> None:
        self._body, self._http = Body(min(max_message_bytes, MOST_BYTES)), asked
        method = asked.route.method
        super().__init__(client, headers, timeout_seconds, receive, send, self._body, arriving, method)

    async def _request(self) -> Any:
        while self._has_body:
            await self._feed()
        self._account()
        return self._http.decode(self._body.whole())

    async def _finish(self, answered: bytes) -> None:
        self._has_started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
        waiting = b""
        for chunk in chunks(self._http.route.response.FromString(answered)):
            waiting += chunk
            if len(waiting) > CHUNK_BYTES:
                await self._send({"type": "http.response.body", "body": waiting, "more_body": True})
                waiting = b""
        await self._send({"type": "http.response.body", "body": waiting + b"\n", "more_body": False})

    async def _refuse(self, status: status_pb2.Status) -> None:
        await refuse(self._send, status)


async def refuse(
    send: Send,
    status: status_pb2.Status,
    number: int | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    *,
    is_head: bool = False,
) -> None:
    """Answer with a status and its details, by its own HTTP status or another one."""
    number = _number_of(status) if number is None else number
    body = encoded(to_value(status)) + b"\n"
    length = (b"content-length", str(len(body)).encode())
    of_status = [*_HEADERS, length, *_headers_of(status), *headers]
    await send({"type": "http.response.start", "status": number, "headers": of_status})
    await send({"type": "http.response.body", "body": b"" if is_head else body, "more_body": False})


def _number_of(status: status_pb2.Status) -> int:
    """Return the HTTP status; what is too large has no details, since waiting would not help."""
    if status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0] and not status.details:
        return TOO_LARGE
    return _BY_NUMBER.get(status.code, 500)


def _headers_of(status: status_pb2.Status) -> list[tuple[bytes, bytes]]:
    if status.code == grpc.StatusCode.UNAUTHENTICATED.value[0]:
        return [(b"www-authenticate", b"Bearer")]
    retry = error_details_pb2.RetryInfo()
    if any(detail.Unpack(retry) for detail in status.details):
        seconds = math.ceil(retry.retry_delay.ToMilliseconds() / 1000)
        return [(b"retry-after", str(seconds).encode())]
    return []
