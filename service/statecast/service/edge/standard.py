"""The services that tools expect of any gRPC server: its health, and what it has to offer.

Streams of theirs end when the server does, which would otherwise wait for callers who wait for the server.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health(health_pb2_grpc.HealthServicer):
    """grpc.health.v1.Health: all services serve until the server has `left`, and watches last until it has `ended`."""

    def __init__(self, services: Iterable[str], left: asyncio.Event, ended: asyncio.Event) -> None:
        self._services = {"", *services}
        self._left, self._ended = left, ended

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        """Tell how a service is."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return self._now()

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:
        """Tell how a service is, and again when that changes."""
        if request.service not in self._services:
            await context.write(HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN))
        else:
            await context.write(now := self._now())
            if now.status == HealthCheckResponse.SERVING:
                await self._left.wait()
                await context.write(self._now())
        await self._ended.wait()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is leaving")

    def _now(self) -> HealthCheckResponse:
        has_left = self._left.is_set()
        return HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING if has_left else HealthCheckResponse.SERVING)


class Reflection(reflection.aio.ReflectionServicer):
    """grpc.reflection.v1alpha.ServerReflection, until the server has `ended`."""

    def __init__(self, services: Iterable[str], ended: asyncio.Event) -> None:
        super().__init__(services)
        self._ended = ended

    # An asynchronous generator, as in the library; its type stubs say otherwise.
    async def ServerReflectionInfo(  # type: ignore[override]
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        """Answer requests until the caller has no more, or the server ends."""
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
    """Both of them, for these services."""

    def __init__(self, services: Iterable[str], server: grpc.aio.Server) -> None:
        self._left, self._ended = asyncio.Event(), asyncio.Event()
        health = Health(services, self._left, self._ended)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        offers = Reflection((*services, HEALTH_SERVICE, reflection.SERVICE_NAME), self._ended)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(offers, server)  # type: ignore[no-untyped-call]

    def leave(self) -> None:
        """Say NOT_SERVING from now on."""
        self._left.set()

    def end(self) -> None:
        """End their streams."""
        self._left.set()
        self._ended.set()


async def _next(messages: AsyncIterator[Any]) -> Any:
    """The next message, or None if there is none."""
    return await anext(messages, None)
