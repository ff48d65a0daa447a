"""Around every call: measure it, and turn errors into statuses with details."""

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from statecast.service.errors import InvalidRequest
from statecast.service.metrics import Metrics
from statecast.service.rpc.status import DETAILS_KEY, code_of, to_status

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Measures calls and answers their errors."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Wrap the handler of a unary call or of a stream in both directions; leave others as they are."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if handler is not None and handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._wrap(handler.unary_unary, ("unary", service, method)),
                _decoder(handler.request_deserializer or bytes),
                handler.response_serializer,
            )
        stream: Any = handler and handler.stream_stream
        if handler is not None and inspect.iscoroutinefunction(stream):
            return grpc.stream_stream_rpc_method_handler(
                self._wrap(stream, ("bidi_stream", service, method)),
                _decoder(handler.request_deserializer or bytes),
                handler.response_serializer,
            )
        return handler

    def _wrap(self, inner: Callable[..., Awaitable[Any]], labels: tuple[str, str, str]) -> Callable[..., Any]:
        async def call(request: Any, context: Context) -> Any:
            self._metrics.rpc_started.labels(*labels).inc()
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
                await context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))
            finally:
                self._metrics.rpc_seconds.labels(*labels).observe(time.perf_counter() - start)
                self._metrics.rpc_handled.labels(*labels, code.name).inc()
            return response

        return call


def _decoder(inner: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Hands on what cannot be decoded as its error, so that it is answered like any other bad request."""

    def decode(data: bytes) -> Any:
        try:
            return inner(data)
        except DecodeError as error:
            return error

    return decode
