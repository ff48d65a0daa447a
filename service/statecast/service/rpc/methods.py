"""The methods of all services by path. Each call is measured, and its error becomes a status with details."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from prometheus_client import Counter

from statecast.service.errors import InvalidRequest
from statecast.service.metrics import Metrics
from statecast.service.rpc.accounting import BY_METHOD, Accounts, Kind, kind_of
from statecast.service.rpc.status import STATUS_CODES, to_status
from statecast.v1.forecast_service_pb2 import ForecastRequest


class Context(Protocol):
    """A call as its method sees it, over any transport."""

    def peer(self) -> str:
        """Return the address of the caller's connection."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None without one."""


class StreamContext(Context, Protocol):
    """A bidirectional stream as its method sees it."""

    async def read(self) -> Any:
        """Return the next message, decoded by `Method.decode`, or grpc.aio.EOF."""

    async def write(self, message: bytes) -> None:
        """Send a message; return once there is room for it."""


@dataclass(frozen=True, slots=True)
class Method:
    """One gRPC method.

    Attributes:
        is_stream: True for a bidirectional stream, False for a unary call.
        decode: Decodes a request's bytes to its message, or to a DecodeError if they are invalid.
        answer: Takes the decoded request and the Context, for a stream None and the StreamContext. Returns the
            response's bytes, empty at the end of a stream, or the status of a failed call.
    """

    is_stream: bool
    decode: Callable[[bytes], Any]
    answer: Callable[[Any, Any], Awaitable[bytes | status_pb2.Status]]


class Methods:
    """Collects methods: the generated code adds services to it as to a gRPC server."""

    def __init__(self, metrics: Metrics, accounts: Accounts) -> None:
        self._metrics = metrics
        self._accounts = accounts
        self.by_path: dict[str, Method] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add the methods of a service."""
        for name, handler in handlers.items():
            is_stream = bool(handler.request_streaming)
            inner = handler.stream_stream if is_stream else handler.unary_unary
            labels = "bidi_stream" if is_stream else "unary", service, name
            decode = decoder(handler.request_deserializer)
            self.by_path[f"/{service}/{name}"] = Method(is_stream, decode, self._measured(inner, labels))

    def add_generic_rpc_handlers(self, handlers: Sequence[object]) -> None:
        """Ignore the methods: add_registered_method_handlers has already added them."""

    def _measured(
        self, inner: Callable[..., Awaitable[Any]], labels: tuple[str, str, str]
    ) -> Callable[[Any, Context], Awaitable[bytes | status_pb2.Status]]:
        started, seconds = self._metrics.rpc_started.labels(*labels), self._metrics.rpc_seconds.labels(*labels)
        handled: dict[grpc.StatusCode, Counter] = {}

        def count(code: grpc.StatusCode, since: float) -> None:
            seconds.observe(time.perf_counter() - since)
            if code not in handled:
                handled[code] = self._metrics.rpc_handled.labels(*labels, code.name)
            handled[code].inc()

        async def answer(request: Any, context: Context) -> bytes | status_pb2.Status:
            started.inc()
            start = time.perf_counter()
            code = grpc.StatusCode.CANCELLED  # unless the call ends otherwise
            try:
                if isinstance(request, DecodeError):
                    raise undecodable()
                response = _encode(await inner(request, context))
                code = grpc.StatusCode.OK
                self._account(labels[-1], request, start, None)
            except Exception as error:
                status = to_status(error)
                code = STATUS_CODES[status.code]
                self._account(labels[-1], request, start, error)
                return status
            except BaseException:  # cancelled: the caller has gone
                if kind := _kind(labels[-1], request):
                    self._accounts.cancelled(kind, start)
                raise
            else:
                return response
            finally:
                count(code, start)

        return answer

    def _account(self, method: str, request: Any, start: float, error: Exception | None) -> None:
        """Count the call as one request, unless it carries many: a frame counts each of its own."""
        kind = _kind(method, request)
        if kind is None:
            # The requests of a frame that cannot be decoded are unknown.
            if isinstance(error, InvalidRequest):
                self._accounts.failed(Kind.UNKNOWN, start, error)
        elif error is None:
            self._accounts.succeeded(kind, start)
        else:
            self._accounts.failed(kind, start, error)


def _kind(method: str, request: Any) -> Kind | None:
    """Return the kind of a call's request; None if it carries many."""
    if isinstance(request, DecodeError):
        return Kind.UNKNOWN
    return kind_of(request) if isinstance(request, ForecastRequest) else BY_METHOD.get(method)


def _encode(response: Message | bytes | None) -> bytes:
    """Encode a response, unless the method already has."""
    if isinstance(response, bytes):
        return response
    return b"" if response is None else response.SerializeToString()


def undecodable() -> InvalidRequest:
    """Return the error for bytes that are not the method's request."""
    return InvalidRequest(
        "request", "cannot be decoded as this method's request; generate your client from the server's .proto files"
    )


def decoder(inner: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a decoder that returns a DecodeError, so that it is answered like any other bad request."""

    def decode(data: bytes) -> Any:
        try:
            return inner(data)
        except DecodeError as error:
            return error

    return decode
