"""Around every call: measure it, and turn errors into statuses with details."""

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from prometheus_client import Counter

from statecast.service.errors import InvalidRequest
from statecast.service.metrics import Metrics
from statecast.service.rpc.status import DETAILS_KEY, code_of, to_status

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Measures calls and answers their errors."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """The wrapped handler of a method, which is made once: every call asks."""
        handler = self._handlers.get(handler_call_details.method)
        if handler is None:
            handler = await continuation(handler_call_details)
            if handler is not None:
                handler = self._handlers[handler_call_details.method] = self._wrapped(
                    handler, handler_call_details.method
                )
        return handler

    def _wrapped(self, handler: Handler, path: str) -> Handler:
        """Wraps the handler of a unary call or of a stream in both directions; leaves others as they are."""
        service, _, method = path.lstrip("/").partition("/")
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._wrap(handler.unary_unary, ("unary", service, method)),
                _decoder(handler.request_deserializer or bytes),
                _encoder(handler.response_serializer),
            )
        stream: Any = handler.stream_stream
        if inspect.iscoroutinefunction(stream):
            return grpc.stream_stream_rpc_method_handler(
                self._wrap(stream, ("bidi_stream", service, method)),
                _decoder(handler.request_deserializer or bytes),
                _encoder(handler.response_serializer),
            )
        return handler

    def _wrap(self, inner: Callable[..., Awaitable[Any]], labels: tuple[str, str, str]) -> Callable[..., Any]:
        started, seconds = self._metrics.rpc_started.labels(*labels), self._metrics.rpc_seconds.labels(*labels)
        handled: dict[grpc.StatusCode, Counter] = {}

        def count(code: grpc.StatusCode, since: float) -> None:
            seconds.observe(time.perf_counter() - since)
            if code not in handled:
                handled[code] = self._metrics.rpc_handled.labels(*labels, code.name)
            handled[code].inc()

        async def call(request: Any, context: Context) -> Any:
            started.inc()
            start = time.perf_counter()
            code = grpc.StatusCode.CANCELLED  # unless it comes to an end
            try:
                if isinstance(request, DecodeError):
                    raise InvalidRequest("request", "not a message of the kind that this method takes")
                response = await inner(request, context)
                code = grpc.StatusCode.OK
            except grpc.aio.AbortError:  # the handler has answered for itself
                code = context.code()
                raise
            except Exception as error:
                code = code_of(error)
                status = to_status(error)
            else:
                return response
            finally:
                count(code, start)
            del request  # the call keeps how it was aborted, and with that this frame, until garbage is looked for
            return await context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))

        return call


def _encoder(inner: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
    """Lets through what a handler has encoded by itself."""

    def encode(message: Any) -> bytes:
        return message if isinstance(message, bytes) or inner is None else inner(message)

    return encode


def _decoder(inner: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Hands on what cannot be decoded as its error, so that it is answered like any other bad request."""

    def decode(data: bytes) -> Any:
        try:
            return inner(data)
        except DecodeError as error:
            return error

    return decode
