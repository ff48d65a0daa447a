"""A gRPC worker process: python -m statecast.service.edge.front DESCRIPTOR.

It forwards the bytes of each call over the socket with that file descriptor, without parsing them. It exits when the
engine process exits or is silent for too long, so that clients move to another server.
"""

import asyncio
import json
import math
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.rpc import status_pb2

from statecast.service import gc_tuning
from statecast.service.edge.link import CALL_HEADER, LEFT_TO_THE_ENGINE, READ_AHEAD, Kind, Link
from statecast.service.edge.transport import Handler, Place, Transport, refuse
from statecast.service.errors import StartupError

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
MOST_UNANSWERED = 5
"""Unanswered pings to the engine process in a row, about one a second, before the worker exits."""
NUMBERS = 2**32
"""Call numbers wrap around here; by then the call that had the same number has ended."""


class Front:
    """The worker's end of the link, with the calls in flight over it."""

    def __init__(self) -> None:
        self._link = Link(self._received, lambda: os._exit(0))
        self._calls: dict[int, _Unary | _Stream] = {}
        self._number = 0
        self._transport: Transport | None = None
        self._told: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    async def run(self, descriptor: int) -> None:
        """Serve until the engine process sends STOP."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self._link, sock=socket.socket(fileno=descriptor))
        watch = asyncio.ensure_future(self._watch())
        kind = None
        while kind != Kind.STOP:
            kind, body = await self._told.get()
            if kind == Kind.HELLO:
                self._link.send(Kind.READY, 0, (await self._start(json.loads(body))).encode())
            elif kind == Kind.IS_READY and self._transport is not None:
                await self._transport.set_ready(json.loads(body))
            elif kind == Kind.LEAVE and self._transport is not None:
                await self._transport.leave()
            elif kind == Kind.STOP and self._transport is not None:
                await self._transport.stop(json.loads(body))
        watch.cancel()

    async def _start(self, hello: dict[str, Any]) -> str:
        """Start serving; return an error message, empty on success."""
        handlers = {
            path: self._stream(number) if is_stream else self._unary(number)
            for number, (path, is_stream) in enumerate(hello["methods"])
        }
        try:
            self._transport = Transport(Place(**hello["place"]), handlers)
        except StartupError as error:
            return str(error)
        await self._transport.start()
        gc_tuning.look_seldom()
        return ""

    async def _watch(self) -> None:
        await self._link.silence(MOST_UNANSWERED, ask=True)
        os._exit(1)

    def _received(self, kind: int, number: int, body: bytes) -> None:
        if kind in (Kind.HELLO, Kind.IS_READY, Kind.LEAVE, Kind.STOP):
            self._told.put_nowait((kind, body))
        elif (call := self._calls.get(number)) is not None:  # else its caller has disconnected
            call.received(kind, body)

    def _unary(self, method: int) -> Handler:
        async def call(request: bytes, context: Context) -> bytes:
            await self._link.room()
            number = self._next_number()
            unary = self._calls[number] = _Unary()
            try:
                self._call(number, method, context, request)
                del request  # it may be large, and the answer slow
                answer = await unary.answer
            except asyncio.CancelledError:
                self._link.send(Kind.CANCEL, number)
                raise
            finally:
                del self._calls[number]
            if isinstance(answer, status_pb2.Status):
                await refuse(context, answer)
            return answer

        return grpc.unary_unary_rpc_method_handler(call)

    def _stream(self, method: int) -> Handler:
        async def call(request_iterator: object, context: Context) -> None:
            number = self._next_number()
            stream = self._calls[number] = _Stream(self._link, number, context)
            self._call(number, method, context, b"")
            try:
                status = await stream.carry()
            except BaseException:
                self._link.send(Kind.CANCEL, number)
                raise
            finally:
                del self._calls[number]
            if status is not None:
                await refuse(context, status)

        return grpc.stream_stream_rpc_method_handler(call)

    def _next_number(self) -> int:
        self._number = (self._number + 1) % NUMBERS
        return self._number

    def _call(self, number: int, method: int, context: Context, request: bytes) -> None:
        peer, remaining = context.peer().encode(), context.time_remaining()
        deadline = math.inf if remaining is None else time.monotonic() + remaining
        self._link.send(Kind.CALL, number, CALL_HEADER.pack(method, deadline, len(peer)), peer, request)


class _Unary:
    """A unary call that waits for its answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes | status_pb2.Status] = asyncio.get_running_loop().create_future()

    def received(self, kind: int, body: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(status_pb2.Status.FromString(body) if kind == Kind.STATUS else body)


class _Stream:
    """A bidirectional stream, with flow control in both directions."""

    def __init__(self, link: Link, number: int, context: Context) -> None:
        self._link = link
        self._number = number
        self._context = context
        self._incoming: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._room = asyncio.Semaphore(READ_AHEAD)

    def received(self, kind: int, body: bytes) -> None:
        if kind == Kind.TAKEN:
            self._room.release()
        else:
            self._incoming.put_nowait((kind, body))

    async def carry(self) -> status_pb2.Status | None:
        """Forward messages until the call ends; return its error status, or None."""
        reader = asyncio.ensure_future(self._read())
        try:
            while True:
                kind, body = await self._incoming.get()
                if kind != Kind.MESSAGE:
                    return status_pb2.Status.FromString(body) if kind == Kind.STATUS else None
                await self._context.write(body)
                self._link.send(Kind.TAKEN, self._number)
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await reader

    async def _read(self) -> None:
        while True:
            await self._room.acquire()
            message = await self._context.read()
            if message is grpc.aio.EOF:
                self._link.send(Kind.END, self._number)
                return
            await self._link.room()
            self._link.send(Kind.MESSAGE, self._number, message)


async def _serve(descriptor: int) -> None:
    await Front().run(descriptor)


def main() -> NoReturn:
    """Serve until the engine process, at the other end of the socket, says stop."""
    for number in LEFT_TO_THE_ENGINE:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_ENGINE)  # the parent process blocked them
    asyncio.run(_serve(int(sys.argv[1])))
    os._exit(0)


if __name__ == "__main__":
    main()
