"""Answers calls that a gRPC worker forwards over a link, as if they had arrived directly."""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

import grpc.aio
from google.rpc import status_pb2

from statecast.service.edge.link import CALL_HEADER, READ_AHEAD, Kind, Link
from statecast.service.rpc.methods import Method
from statecast.service.rpc.status import to_status


class Calls:
    """All calls in flight over one link."""

    def __init__(self, methods: Sequence[Method], link: Link) -> None:
        self._methods = methods
        self._link = link
        self._under_way: dict[int, tuple[asyncio.Task[None], _Context]] = {}

    def received(self, kind: int, number: int, body: bytes) -> None:
        """Handle a message about a call."""
        if kind == Kind.CALL:
            self._begin(number, body)
        elif (found := self._under_way.get(number)) is not None:  # else it has already ended
            task, context = found
            if kind == Kind.CANCEL:
                task.cancel()
            elif isinstance(context, _Stream):
                context.received(kind, body)

    def cancel(self) -> None:
        """Cancel all calls: the worker has gone."""
        for task, _ in self._under_way.values():
            task.cancel()

    def _begin(self, number: int, body: bytes) -> None:
        method_number, deadline, length = CALL_HEADER.unpack_from(body)
        start = CALL_HEADER.size + length
        peer, method = body[CALL_HEADER.size : start].decode(), self._methods[method_number]
        context: _Context = _Context(peer, deadline)
        if method.is_stream:
            context = _Stream(peer, deadline, self._link, number, method)
        task = asyncio.ensure_future(self._answer(number, method, body[start:], context))
        self._under_way[number] = task, context
        task.add_done_callback(lambda _: self._under_way.pop(number))

    async def _answer(self, number: int, method: Method, data: bytes, context: "_Context") -> None:
        try:
            answered = await method.answer(None if method.is_stream else method.decode(data), context)
        except Exception as error:  # a bug; the caller still needs an answer
            answered = to_status(error)
        if isinstance(answered, status_pb2.Status):
            self._link.send(Kind.STATUS, number, answered.SerializeToString())
        else:
            self._link.send(Kind.ANSWER, number, answered)


class _Context:
    """A forwarded call; implements rpc.methods.Context."""

    def __init__(self, peer: str, deadline: float) -> None:
        self._peer = peer
        self._deadline = deadline

    def peer(self) -> str:
        return self._peer

    def time_remaining(self) -> float | None:
        return None if self._deadline == math.inf else max(0.0, self._deadline - time.monotonic())


class _Stream(_Context):
    """A forwarded stream; implements rpc.methods.StreamContext."""

    def __init__(self, peer: str, deadline: float, link: Link, number: int, method: Method) -> None:
        super().__init__(peer, deadline)
        self._link = link
        self._number = number
        self._decode = method.decode
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(READ_AHEAD)

    async def read(self) -> Any:
        message = await self._incoming.get()
        if message is None:
            return grpc.aio.EOF
        self._link.send(Kind.TAKEN, self._number)
        return self._decode(message)

    async def write(self, message: bytes) -> None:
        await self._room.acquire()
        self._link.send(Kind.MESSAGE, self._number, message)

    def received(self, kind: int, body: bytes) -> None:
        if kind == Kind.TAKEN:
            self._room.release()
        else:
            self._incoming.put_nowait(body if kind == Kind.MESSAGE else None)
