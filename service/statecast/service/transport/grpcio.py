"""gRPC by grpcio, in this process."""

from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.rpc import status_pb2

from statecast.service.rpc.methods import Method
from statecast.service.rpc.status import DETAILS_KEY, STATUS_CODES
from statecast.service.transport.place import Place, cannot_listen, resolve

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class GrpcioTransport:
    """A gRPC server with these methods, by path. Create it in the event loop that runs it."""

    def __init__(self, place: Place, methods: Mapping[str, Method], max_message_bytes: int) -> None:
        """Listen, but answer nothing yet.

        Raises:
            StartupError: if the server cannot listen there.
        """
        resolve(place)
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # else a second server could take the port by mistake
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", -1),
                # A burst of calls waits to be admitted or refused; beyond these limits the transport drops calls.
                ("grpc.server.max_pending_requests", 100_000),
                ("grpc.server.max_pending_requests_hard_limit", 200_000),
                # Clients may send a keepalive ping every other second.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                # Close connections of clients that have vanished, to free what they hold.
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.http2.ping_timeout_ms", 10_000),
            ],
        )
        self._server.add_generic_rpc_handlers((_Handlers({path: _handler(each) for path, each in methods.items()}),))
        try:
            self._port = self._server.add_insecure_port(str(place))
        except RuntimeError as error:
            raise cannot_listen(place) from error

    async def start(self) -> int:
        """Start answering calls; return the port."""
        await self._server.start()
        return self._port

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, and let those in flight finish within the grace period."""
        await self._server.stop(grace_seconds)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, by_path: Mapping[str, Handler]) -> None:
        self._by_path = by_path

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        return self._by_path.get(handler_call_details.method)


def _handler(method: Method) -> Handler:
    async def call(request: Any, context: Context) -> bytes | None:
        answer = method.answer(request, context)
        del request  # an aborted call keeps this frame alive until the next garbage collection
        answered = await answer
        if isinstance(answered, status_pb2.Status):
            await _refuse(context, answered)
        return answered

    async def stream(_: object, context: Context) -> None:
        answered = await method.answer(None, context)
        if isinstance(answered, status_pb2.Status):
            await _refuse(context, answered)

    if method.is_stream:
        return grpc.stream_stream_rpc_method_handler(stream, method.decode)
    return grpc.unary_unary_rpc_method_handler(call, method.decode)


async def _refuse(context: Context, status: status_pb2.Status) -> NoReturn:
    """Abort a call with a status and its details."""
    await context.abort(STATUS_CODES[status.code], status.message, ((DETAILS_KEY, status.SerializeToString()),))
