"""The standard gRPC health and reflection services.

Their streams end when the server stops; otherwise the server and its callers would wait for each other.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

import grpc.aio
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class Health(health_pb2_grpc.HealthServicer):
    """grpc.health.v1.Health: the empty name reports liveness, a service name reports readiness."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = {"", *services}
        self._is_up, self._is_ready, self._has_ended = True, True, False
        self._changed = asyncio.Event()

    def tell(self, *, is_up: bool | None = None, is_ready: bool | None = None, has_ended: bool = False) -> None:
        """Change the status and notify watchers; None keeps a value. `has_ended` ends all watches."""
        self._is_up = self._is_up if is_up is None else is_up
        self._is_ready = self._is_ready if is_ready is None else is_ready
        self._has_ended |= has_ended
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        """Return the status of a service."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service; the empty name checks the server")
        return HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:
        """Send the status of a service, and again whenever it changes."""
        told: int | None = None
        while not self._has_ended or told is None:
            changed, now = self._changed, self._status(request.service)
            if now != told:
                await context.write(HealthCheckResponse(status=now))
                told = now
            else:
                await changed.wait()
        if told != (now := self._status(request.service)):
            await context.write(HealthCheckResponse(status=now))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")

    def _status(self, service: str) -> Any:
        if service not in self._services:
            return HealthCheckResponse.SERVICE_UNKNOWN
        serves = self._is_up and (self._is_ready or not service)
        return HealthCheckResponse.SERVING if serves else HealthCheckResponse.NOT_SERVING


class Reflection(reflection.aio.ReflectionServicer):
    """grpc.reflection.v1.ServerReflection, and v1alpha with equal messages, until `ended` is set."""

    def __init__(self, services: Iterable[str], ended: asyncio.Event) -> None:
        super().__init__(services)
        self._ended = ended

    # An asynchronous generator, as in the library; its type stubs are wrong.
    async def ServerReflectionInfo(  # type: ignore[override]
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        """Answer requests until the caller ends the stream or the server stops."""
        answers: Any = super().ServerReflectionInfo(self._until_the_end(request_iterator), context)
        async for answer in answers:
            yield answer

    async def _until_the_end(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        ended = asyncio.ensure_future(self._ended.wait())
        waiting = {ended}
        try:
            while True:
                message = asyncio.ensure_future(_next(messages))
                waiting.add(message)
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not message.done() or message.result() is None:
                    return
                waiting.remove(message)
                yield message.result()
        finally:
            for each in waiting:
                each.cancel()


class Standard:
    """Health and reflection for these services."""

    def __init__(self, services: Iterable[str], server: grpc.aio.Server) -> None:
        self._health, self._ended = Health(services), asyncio.Event()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _describe_v1()
        offers = Reflection((*services, HEALTH_SERVICE, REFLECTION_V1, reflection.SERVICE_NAME), self._ended)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(offers, server)  # type: ignore[no-untyped-call]
        method = grpc.stream_stream_rpc_method_handler(
            offers.ServerReflectionInfo,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        handler = grpc.method_handlers_generic_handler(REFLECTION_V1, {"ServerReflectionInfo": method})
        server.add_generic_rpc_handlers((handler,))

    def set_ready(self, is_ready: bool) -> None:
        """Set the readiness that health reports."""
        self._health.tell(is_ready=is_ready)

    def leave(self) -> None:
        """Report NOT_SERVING from now on."""
        self._health.tell(is_up=False)

    def end(self) -> None:
        """End all health and reflection streams."""
        self._health.tell(is_up=False, has_ended=True)
        self._ended.set()


def _describe_v1() -> None:
    """Register a description of v1, derived from the library's v1alpha, so that reflection can describe itself."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    descriptor_pool.Default().Add(text_format.Parse(text, FileDescriptorProto()))


async def _next(messages: AsyncIterator[Any]) -> Any:
    """Return the next message, or None at the end."""
    return await anext(messages, None)
