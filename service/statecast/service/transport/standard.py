"""The standard gRPC health and reflection services.

Their streams end when the server stops; otherwise the server and its callers would wait for each other.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection, reflection_pb2

from statecast.service.access.gate import Gate
from statecast.service.access.principal import STRANGER
from statecast.service.rpc.accounting import Accounts
from statecast.service.rpc.methods import Context, Method, StreamContext, decoder, undecodable
from statecast.service.rpc.status import to_status

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
LOOK_SECONDS = 1.0
"""How often a silent stream's caller is looked at: whether its credential still holds."""
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class Health:
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

    @property
    def is_ready(self) -> bool:
        """True if the services serve."""
        return self._is_up and self._is_ready

    async def check(self, request: Any, _: Context) -> bytes | status_pb2.Status:
        """Return the status of a service."""
        if isinstance(request, DecodeError):
            return to_status(undecodable(request))
        if request.service not in self._services:
            return _status(grpc.StatusCode.NOT_FOUND, "no such service; the empty name checks the server")
        return self._answer(request.service)

    async def watch(self, _: None, context: StreamContext) -> bytes | status_pb2.Status:
        """Send the status of a service, and again whenever it changes."""
        request = await context.read()
        if not isinstance(request, HealthCheckRequest):
            return to_status(undecodable(DecodeError()))
        told: bytes | None = None
        while not self._has_ended or told is None:
            changed, now = self._changed, self._answer(request.service)
            if now != told:
                await context.write(now)
                told = now
            else:
                await changed.wait()
        if told != (now := self._answer(request.service)):
            await context.write(now)
        return _status(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")

    def _answer(self, service: str) -> bytes:
        if service not in self._services:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN).SerializeToString()
        serves = self._is_up and (self.is_ready or not service)
        status = HealthCheckResponse.SERVING if serves else HealthCheckResponse.NOT_SERVING
        return HealthCheckResponse(status=status).SerializeToString()


class Reflection(reflection.aio.ReflectionServicer):
    """grpc.reflection.v1.ServerReflection, and v1alpha with equal messages, until `ended` is set."""

    def __init__(self, services: Iterable[str], ended: asyncio.Event, gate: Gate) -> None:
        super().__init__(services)
        self._ended, self._gate = ended, gate

    async def answer(self, _: None, context: StreamContext) -> bytes | status_pb2.Status:
        """Answer requests until the caller ends the stream, may not go on, or the server stops."""
        # An asynchronous generator, as in the library; its type stubs are wrong.
        answers: Any = self.ServerReflectionInfo(self._requests(context), context)
        async for answer in answers:
            await context.write(answer.SerializeToString())
        refusal = self._gate.refusal(context.principal)
        return to_status(refusal) if refusal else b""

    async def _wait(self, waiting: "set[asyncio.Future[Any]]") -> "set[asyncio.Future[Any]]":
        done, _ = await asyncio.wait(waiting, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return done

    async def _requests(self, context: StreamContext) -> AsyncIterator[Any]:
        ended = asyncio.ensure_future(self._ended.wait())
        waiting: set[asyncio.Future[Any]] = {ended}
        try:
            while True:
                message = asyncio.ensure_future(context.read())
                waiting.add(message)
                while not (done := (await self._wait(waiting))) and not self._gate.refusal(context.principal):
                    pass
                if message not in done or message.result() is grpc.aio.EOF or self._gate.refusal(context.principal):
                    return
                waiting.remove(message)
                if isinstance(message.result(), DecodeError):
                    return
                yield message.result()
        finally:
            for each in waiting:
                each.cancel()


class Standard:
    """Health, for everybody, and reflection for these services, for callers that the gate admits."""

    def __init__(self, services: Iterable[str], gate: Gate, accounts: Accounts) -> None:
        services = tuple(services)
        self._health, self._ended = Health(services), asyncio.Event()
        _describe_v1()
        offers = Reflection((*services, HEALTH_SERVICE, REFLECTION_V1, reflection.SERVICE_NAME), self._ended, gate)
        asked = decoder(HealthCheckRequest.FromString)
        decode = decoder(reflection_pb2.ServerReflectionRequest.FromString)

        def admit(context: Context) -> status_pb2.Status | None:
            try:
                context.principal = gate.admit(context)
            except Exception as error:  # also a bug must not let anybody in
                context.principal = STRANGER
                accounts.call_failed("ServerReflectionInfo", time.perf_counter(), error, context)
                return to_status(error)
            return None

        reflect = Method(True, decode, offers.answer, admit)
        self.methods: Mapping[str, Method] = {
            f"/{HEALTH_SERVICE}/Check": Method(False, asked, self._health.check),
            f"/{HEALTH_SERVICE}/Watch": Method(True, asked, self._health.watch),
            f"/{REFLECTION_V1}/ServerReflectionInfo": reflect,
            f"/{reflection.SERVICE_NAME}/ServerReflectionInfo": reflect,
        }

    @property
    def is_ready(self) -> bool:
        """True if the server is up and its Redis can be used."""
        return self._health.is_ready

    def set_ready(self, is_ready: bool) -> None:
        """Set the readiness that health reports; calls are answered in any case."""
        self._health.tell(is_ready=is_ready)

    def leave(self) -> None:
        """Report NOT_SERVING from now on."""
        self._health.tell(is_up=False)

    def end(self) -> None:
        """End all health and reflection streams."""
        self._health.tell(is_up=False, has_ended=True)
        self._ended.set()


def _status(code: grpc.StatusCode, message: str) -> status_pb2.Status:
    return status_pb2.Status(code=code.value[0], message=message)


def _describe_v1() -> None:
    """Register a description of v1, derived from the library's v1alpha, so that reflection can describe itself."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    descriptor_pool.Default().Add(text_format.Parse(text, FileDescriptorProto()))
