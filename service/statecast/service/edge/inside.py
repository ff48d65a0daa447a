"""Runs gRPC in the engine process: nothing to forward, but both share the GIL."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.rpc import status_pb2

from statecast.service.edge.transport import Handler, Place, Transport, refuse, resolve
from statecast.service.rpc.methods import Method

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def inside(place: Place, methods: Mapping[str, Method]) -> Transport:
    """Return a gRPC server in this process for these methods, by path.

    Raises:
        StartupError: if the server cannot listen there.
    """
    resolve(place)
    return Transport(place, {path: _handler(method) for path, method in methods.items()})


def _handler(method: Method) -> Handler:
    async def call(request: Any, context: Context) -> bytes | None:
        answer = method.answer(request, context)
        del request  # an aborted call keeps this frame alive until the next garbage collection
        answered = await answer
        if isinstance(answered, status_pb2.Status):
            await refuse(context, answered)
        return answered

    async def stream(request_iterator: object, context: Context) -> None:
        answered = await method.answer(request_iterator, context)
        if isinstance(answered, status_pb2.Status):
            await refuse(context, answered)

    if method.is_stream:
        return grpc.stream_stream_rpc_method_handler(stream, method.decode)
    return grpc.unary_unary_rpc_method_handler(call, method.decode)
