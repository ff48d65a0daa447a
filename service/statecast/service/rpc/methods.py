"""The methods of all services by path. Each call is measured, and its error becomes a status with details."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2
from prometheus_client import Counter

from statecast.service.access.gate import Credentials, Gate
from statecast.service.access.principal import STRANGER, Principal
from statecast.service.engine.request import Request
from statecast.service.errors import InvalidRequest, ServiceError
from statecast.service.metrics import Metrics, observe_all
from statecast.service.rpc.accounting import BY_METHOD, Accounts, Kind, kind_of_message
from statecast.service.rpc.crowded import MAX_PARTS, MAX_REQUESTS_A_FRAME, has_more_fields, nested_in
from statecast.service.rpc.status import STATUS_CODES, code_of, to_status
from statecast.v1.forecast_service_pb2 import ForecastRequest

if TYPE_CHECKING:  # an optional extra
    from statecast.service.tracing.spans import CallTrace, Spans

FRAMES = ("ForecastMany", "ForecastStream", "ImportSessions")
"""The methods whose messages carry many requests."""
MANY = (*FRAMES, "ModelStreamInfer")
"""The methods whose calls do."""
UNARY, SERVER_STREAM, BIDI_STREAM = "unary", "server_stream", "bidi_stream"


class Context(Credentials, Protocol):
    """A call as its method sees it, over any transport."""

    principal: Principal
    """The caller, once the method has admitted the call."""
    asked: Request | None
    """The engine's request of a call with one, once the method has made it: the log shows how long it waited."""
    trace: "CallTrace | None"
    """The call's trace; None if it is not sampled."""

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None without one."""

    def traceparent(self) -> str | None:
        """Return the header `traceparent`; None without one."""

    def header(self, name: str) -> str | None:
        """Return a header by its lower-case name, before the call is answered; None without it."""


class StreamContext(Context, Protocol):
    """A stream as its method sees it."""

    async def read(self) -> Any:
        """Return the next message, decoded by `Method.decode`, or grpc.aio.EOF."""

    async def write(self, message: bytes) -> None:
        """Send a message; return once there is room for it."""


@dataclass(frozen=True, slots=True)
class Method:
    """One gRPC method.

    Attributes:
        is_stream: True if the call may carry many messages, False for a unary call.
        decode: Decodes a request's bytes to its message, or to a DecodeError if they are invalid.
        answer: Takes the decoded request and the Context, for a stream None and the StreamContext. Returns the
            response's bytes, empty at the end of a stream, or the status of a failed call.
        admit: Takes the Context before the request is read, sets its principal, and returns the status of a call that
            is refused; None admits everybody.
        asks_once: True for a stream whose caller sends one message only; the method reads it like any stream's.
    """

    is_stream: bool
    decode: Callable[[bytes], Any]
    answer: Callable[[Any, Any], Awaitable[bytes | status_pb2.Status]]
    admit: Callable[[Any], status_pb2.Status | None] | None = None
    asks_once: bool = False


class Malformed(DecodeError):
    """A request is refused before it is a message of its method: the field at fault, the problem and what to do."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


class Methods:
    """Collects methods: the generated code adds services to it as to a gRPC server."""

    def __init__(self, metrics: Metrics, accounts: Accounts, gate: Gate, spans: "Spans | None" = None) -> None:
        self._metrics = metrics
        self._accounts = accounts
        self._gate = gate
        self._spans = spans
        self.by_path: dict[str, Method] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add the methods of a service."""
        for name, handler in handlers.items():
            inner = handler.stream_stream or handler.unary_stream or handler.unary_unary
            labels = _type_of(handler), service, name
            decode = decoder(handler.request_deserializer, MAX_REQUESTS_A_FRAME if name in FRAMES else None)
            method = _Measured(inner, labels, self._metrics, self._accounts, self._gate, self._spans)
            is_stream, asks_once = bool(handler.response_streaming), not handler.request_streaming
            self.by_path[f"/{service}/{name}"] = Method(
                is_stream, decode, method.answer, method.admit, asks_once=is_stream and asks_once
            )

    def add_generic_rpc_handlers(self, handlers: Sequence[object]) -> None:
        """Ignore the methods: add_registered_method_handlers has already added them."""


class _Measured:
    """One method of a service: admits its calls, measures them and turns their errors into statuses."""

    def __init__(
        self,
        inner: Callable[..., Awaitable[Any]],
        labels: tuple[str, str, str],
        metrics: Metrics,
        accounts: Accounts,
        gate: Gate,
        spans: "Spans | None",
    ) -> None:
        self._inner, self._name, self._accounts, self._gate = inner, labels[-1], accounts, gate
        self._spans, self._path = spans, "/".join(labels[1:])
        self._asks_once = labels[0] == SERVER_STREAM
        self._started, self._seconds = metrics.rpc_started.labels(*labels), metrics.rpc_seconds.labels(*labels)
        self._handled: dict[grpc.StatusCode, Counter] = {}
        self._counter_of = partial(metrics.rpc_handled.labels, *labels)

    def admit(self, context: Context) -> status_pb2.Status | None:
        """Set the call's principal, or return the status of a call that is refused."""
        start = time.perf_counter()
        if self._spans is not None:
            context.trace = self._spans.begin(self._path, context, has_many=self._name in MANY)
        try:
            context.principal = self._gate.admit(context)
        except Exception as error:  # also a bug must not let anybody in
            self._started.inc()
            context.principal = STRANGER
            self._accounts.failed(BY_METHOD.get(self._name, Kind.UNKNOWN), start, error, None, context)
            self._count(code_of(error), start)
            if context.trace is not None:
                context.trace.end(code_of(error).name, _reason_of(error), "")
            return to_status(error)
        return None

    async def answer(self, request: Any, context: Context) -> bytes | status_pb2.Status:
        """Answer a call."""
        self._started.inc()
        start = time.perf_counter()
        code, reason = grpc.StatusCode.CANCELLED, ""  # unless the call ends otherwise
        try:
            if self._asks_once:
                request = await _only_message(context)
            if isinstance(request, DecodeError):
                raise undecodable(request)
            response = _encode(await self._inner(request, context))
            code = grpc.StatusCode.OK
            self._account(request, start, None, context)
        except Exception as error:
            status = to_status(error)
            code, reason = STATUS_CODES[status.code], _reason_of(error)
            self._account(request, start, error, context)
            return status
        except BaseException:  # cancelled: the caller has gone
            if kind := _kind(self._name, request):
                self._accounts.cancelled(kind, start, context.asked or request, context)
            raise
        else:
            return response
        finally:
            self._count(code, start)
            if context.trace is not None:
                context.trace.end(code.name, reason, context.principal.tenant)

    def _count(self, code: grpc.StatusCode, since: float) -> None:
        observe_all(self._seconds, {time.perf_counter() - since: 1})
        if code not in self._handled:
            self._handled[code] = self._counter_of(code.name)
        self._handled[code].inc()

    def _account(self, request: Any, start: float, error: Exception | None, context: Context) -> None:
        """Settle the call as one request, unless it carries many: a frame settles each of its own."""
        kind = _kind(self._name, request)
        if kind is None:
            # The requests of a frame that cannot be decoded are unknown.
            if isinstance(error, InvalidRequest):
                self._accounts.failed(Kind.UNKNOWN, start, error, None, context)
            elif error is not None:
                self._accounts.call_failed(self._name, start, error, context)
        elif error is None:
            self._accounts.succeeded(kind, start, context.asked or request, context)
        else:
            self._accounts.failed(kind, start, error, context.asked or request, context)


def _reason_of(error: Exception) -> str:
    return error.reason.value if isinstance(error, ServiceError) else type(error).__name__


def _type_of(handler: Any) -> str:
    """Return a method's type, as gRPC's metrics name it."""
    if handler.request_streaming:
        return BIDI_STREAM
    return SERVER_STREAM if handler.response_streaming else UNARY


async def _only_message(context: Any) -> Any:
    """Return the message of a stream whose caller sends one."""
    message = await context.read()
    if message is grpc.aio.EOF:
        raise InvalidRequest("request", "is missing; send one message")
    return message


def _kind(method: str, request: Any) -> Kind | None:
    """Return the kind of a call's request; None if it carries many."""
    if isinstance(request, DecodeError):
        return Kind.UNKNOWN
    return kind_of_message(request) if isinstance(request, ForecastRequest) else BY_METHOD.get(method)


def _encode(response: Message | bytes | None) -> bytes:
    """Encode a response, unless the method already has."""
    if isinstance(response, bytes):
        return response
    return b"" if response is None else response.SerializeToString()


def undecodable(error: DecodeError) -> InvalidRequest:
    """Return the error for bytes that are not the method's request."""
    if isinstance(error, Malformed):
        return InvalidRequest(error.field, error.problem)
    return InvalidRequest(
        "request", "cannot be decoded as this method's request; generate your client from the server's .proto files"
    )


def decoder(inner: Callable[[bytes], Any], most: int | None = None) -> Callable[[bytes], Any]:
    """Return a decoder that returns a DecodeError, so that it is answered like any other bad request.

    A large message is not decoded if it has more than `most` requests, or more than MAX_PARTS times and the like.
    """
    nested = nested_in(inner(b"").DESCRIPTOR)

    def decode(data: bytes) -> Any:
        if most is not None and has_more_fields(data, most):
            return Malformed("request", f"has more than {most} requests; send them in several frames")
        if nested is not None and has_more_fields(data, MAX_PARTS, nested):
            return Malformed("request", f"has more than {MAX_PARTS} times or other small parts; send fewer at once")
        try:
            return inner(data)
        except DecodeError as error:
            return error

    return decode
