"""The methods of all services by path: each call is measured, and its error turned into a status with details."""

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
    """A call as its method sees it; those of gRPC are such, and those that come over a link."""

    def peer(self) -> str:
        """Who calls: the address of the connection."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller gives up; None if never."""


class StreamContext(Context, Protocol):
    """A call with messages in both directions."""

    async def read(self) -> Any:
        """The next message of a stream: what `Method.decode` makes of it, or grpc.aio.EOF."""

    async def write(self, message: bytes) -> None:
        """Send a message of a stream; returns when there is room for it."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    Attributes:
        is_stream: Whether messages travel in both directions, through the call's context, or one each way.
        decode: From a request's bytes to its message, or to the DecodeError that says why it is none.
        answer: From the decoded request and the Context, for a stream nothing and the StreamContext, to the response's
            bytes, empty at the end of a stream, or how the call failed.
    """

    is_stream: bool
    decode: Callable[[bytes], Any]
    answer: Callable[[Any, Any], Awaitable[bytes | status_pb2.Status]]


class Methods:
    """Collects methods: to the generated code, which adds services to servers, this is one."""

    def __init__(self, metrics: Metrics, accounts: Accounts) -> None:
        self._metrics = metrics
        self._accounts = accounts
        self.by_path: dict[str, Method] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take a service, of whose methods the handlers are."""
        for name, handler in handlers.items():
            is_stream = bool(handler.request_streaming)
            inner = handler.stream_stream if is_stream else handler.unary_unary
            labels = "bidi_stream" if is_stream else "unary", service, name
            decode = _decoder(handler.request_deserializer)
            self.by_path[f"/{service}/{name}"] = Method(is_stream, decode, self._measured(inner, labels))

    def add_generic_rpc_handlers(self, handlers: Sequence[object]) -> None:
        """The same methods once more, for servers that know no other way."""

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
            code = grpc.StatusCode.CANCELLED  # unless it comes to an end
            try:
                if isinstance(request, DecodeError):
                    raise InvalidRequest(
                        "request",
                        "not a message of the kind that this method takes; generate your code from the server's "
                        ".proto files",
                    )
                response = _encode(await inner(request, context))
                code = grpc.StatusCode.OK
                self._account(labels[-1], request, start, None)
            except Exception as error:
                status = to_status(error)
                code = STATUS_CODES[status.code]
                self._account(labels[-1], request, start, error)
                return status
            except BaseException:  # its caller has gone
                if kind := _kind(labels[-1], request):
                    self._accounts.cancelled(kind, start)
                raise
            else:
                return response
            finally:
                count(code, start)

        return answer

    def _account(self, method: str, request: Any, start: float, error: Exception | None) -> None:
        """Count the call as a request, unless it carries many, which are counted one by one."""
        kind = _kind(method, request)
        if kind is None:
            # Of a frame that cannot be read nobody knows what it asks for.
            if isinstance(error, InvalidRequest):
                self._accounts.failed(Kind.UNKNOWN, start, error)
        elif error is None:
            self._accounts.succeeded(kind, start)
        else:
            self._accounts.failed(kind, start, error)


def _kind(method: str, request: Any) -> Kind | None:
    """What a call asks for; None if it carries many requests."""
    if isinstance(request, DecodeError):
        return Kind.UNKNOWN
    return kind_of(request) if isinstance(request, ForecastRequest) else BY_METHOD.get(method)


def _encode(response: Message | bytes | None) -> bytes:
    """Lets through what a method has encoded by itself."""
    if isinstance(response, bytes):
        return response
    return b"" if response is None else response.SerializeToString()


def _decoder(inner: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Hands on what cannot be decoded as its error, so that it is answered like any other bad request."""

    def decode(data: bytes) -> Any:
        try:
            return inner(data)
        except DecodeError as error:
            return error

    return decode
