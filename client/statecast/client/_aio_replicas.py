"""The replicas of an asyncio client."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import grpc.aio

from ._aio_stream import AsyncStream
from ._bearer import AsyncBearer, Metadata
from ._calls import FORECAST_STREAM
from ._connection import Connection
from ._replicas import RETIRED_SECONDS, Replica, Replicas
from ._target import Name, look_up


class AsyncReplica(Replica):
    """A channel, and the stream on it on which forecasts that are requested at the same time travel together."""

    def __init__(self, channel: grpc.aio.Channel, bearer: AsyncBearer) -> None:
        super().__init__(channel)
        self.stream = AsyncStream(self._open_stream, bearer, self.note_failure)

    def _open_stream(self, metadata: Metadata) -> Any:
        return self.method(FORECAST_STREAM)(metadata=metadata)

    async def close(self) -> None:
        """End the stream and close the channel."""
        await self.stream.close()
        await self.channel.close()


class AsyncReplicas(Replicas[AsyncReplica]):
    """The replicas behind a target. They belong to the running event loop."""

    def __init__(self, connection: Connection, bearer: AsyncBearer) -> None:
        self._bearer = bearer
        self._looking: asyncio.Task[None] | None = None
        self._leaving: dict[AsyncReplica, asyncio.Task[None]] = {}
        super().__init__(connection)

    async def close(self) -> None:
        """Close all channels."""
        for task in (self._looking, *self._leaving.values()):
            if task is not None:
                task.cancel()
        for replica in (self.any, *self._ring.by_address.values(), *self._leaving):
            await replica.close()

    def _new(self, connection: Connection) -> AsyncReplica:
        return AsyncReplica(connection.open_async(), self._bearer)

    def _refresh(self) -> None:
        if self._looking is not None and not self._looking.done():
            return
        self._looked_at = time.monotonic()
        if self._name is None:
            self._settle([self._listed])
        else:
            self._looking = asyncio.ensure_future(self._look_up(self._name))

    async def _look_up(self, name: Name) -> None:
        found = None
        with suppress(OSError, UnicodeError):
            found = await asyncio.to_thread(look_up, name)
        for replica in self._settle(found):
            self._leaving[replica] = asyncio.ensure_future(self._retire(replica))

    async def _retire(self, replica: AsyncReplica) -> None:
        await asyncio.sleep(RETIRED_SECONDS)
        await replica.close()
        del self._leaving[replica]
