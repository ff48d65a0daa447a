"""The protocol between the engine process and a gRPC worker: messages over a socket, in both directions."""

import asyncio
import signal
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import cast

_HEADER = struct.Struct("<IBI")  # bytes after the header, kind, call number
CALL_HEADER = struct.Struct("<HdH")  # method number, deadline by time.monotonic, bytes of the peer
LEFT_TO_THE_ENGINE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a worker ignores: the engine process handles them and stops its workers."""
READ_AHEAD = 1
"""Messages of a stream that may be in flight in each direction before the receiver takes one."""
ASK_SECONDS = 1.0
"""Interval between checks that the other end is alive."""
SENT_AT_ONCE = 256 * 1024
"""Bytes, about: messages up to this size are joined into one write; more are written at once."""


class Kind(IntEnum):
    """Message types of a link."""

    HELLO = 1
    """To the worker: the address to listen on and the methods, in JSON."""
    READY = 2
    """To the engine: empty if the worker serves, else its error message."""
    CALL = 3
    """To the engine: CALL_HEADER, the peer, and the request of a unary call."""
    MESSAGE = 4
    """One message of a stream."""
    TAKEN = 5
    """The receiver took a message of a stream: there is room for another."""
    END = 6
    """To the engine: the caller has sent its last message."""
    CANCEL = 7
    """To the engine: the caller has gone."""
    ANSWER = 8
    """To the worker: a unary call's response, or the successful end of a stream."""
    STATUS = 9
    """To the worker: a failed call's google.rpc.Status."""
    LEAVE = 10
    """To the worker: report NOT_SERVING."""
    STOP = 11
    """To the worker: stop, with a grace period in seconds as JSON."""
    ARE_YOU_THERE = 12
    """To the engine: a ping."""
    HERE_I_AM = 13
    """To the worker: the answer to a ping."""
    IS_READY = 14
    """To the worker: the readiness to report, a boolean in JSON."""


Received = Callable[[int, int, bytes], None]
"""Receives a message: its kind, call number and body."""


class Link(asyncio.Protocol):
    """One end of the link. Messages sent in one event loop iteration are written together."""

    def __init__(self, received: Received, lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._sent_bytes = self.received_bytes = 0
        self._incoming = bytearray()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def send(self, kind: Kind, call: int = 0, *parts: bytes) -> None:
        """Send a message; do nothing if the other end has gone."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        length = sum(map(len, parts))
        self._unsent.append(_HEADER.pack(length, kind, call))
        self._unsent += parts
        self._unsent_bytes += _HEADER.size + length
        if self._unsent_bytes > SENT_AT_ONCE:
            self._flush()

    async def room(self) -> None:
        """Wait while the send buffer is full."""
        while not self._has_room.is_set():  # another waiter may have filled it again
            await self._has_room.wait()

    @property
    def backlog_bytes(self) -> int:
        """Bytes sent that are still buffered in this process."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def gone_bytes(self) -> int:
        """Bytes sent that have left this process."""
        return self._sent_bytes - self.backlog_bytes

    async def silence(self, most: int, *, ask: bool) -> None:
        """Wait until the other end is silent in `most` checks in a row, about one a second.

        It is alive if it sends bytes or reads buffered ones, however slowly. Checks are counted, not seconds, so that a
        pause of the whole machine does not count as silence.
        """
        silent = 0
        while silent < most:
            received, gone, backlog = self.received_bytes, self.gone_bytes, self.backlog_bytes
            if ask:
                self.send(Kind.ARE_YOU_THERE)
            await asyncio.sleep(ASK_SECONDS)
            is_alive = self.received_bytes > received or (backlog and self.gone_bytes > gone)
            silent = 0 if is_alive else silent + 1

    def close(self) -> None:
        """Flush unsent messages and close the socket."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        length, self._unsent_bytes = self._unsent_bytes, 0
        if not unsent or self._transport is None or self._transport.is_closing():
            return
        self._sent_bytes += length
        for part in [b"".join(unsent)] if length <= SENT_AT_ONCE else unsent:
            self._transport.write(part)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Handle the end of the connection."""
        self._has_room.set()
        self._lost()

    def pause_writing(self) -> None:
        """Make senders wait: the send buffer is full."""
        self._has_room.clear()

    def resume_writing(self) -> None:
        """Let senders continue: the send buffer has room."""
        self._has_room.set()

    def data_received(self, data: bytes) -> None:
        """Deliver every complete message."""
        self.received_bytes += len(data)
        incoming, at = self._incoming, 0
        incoming += data
        while len(incoming) - at >= _HEADER.size:
            length, kind, call = _HEADER.unpack_from(incoming, at)
            end = at + _HEADER.size + length
            if end > len(incoming):
                break
            self._received(kind, call, bytes(incoming[at + _HEADER.size : end]))
            at = end
        del incoming[:at]
