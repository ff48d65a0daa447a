"""What travels between the engine's process and one that speaks gRPC: messages over a socket, in both directions."""

import asyncio
import signal
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import cast

_HEADER = struct.Struct("<IBI")  # bytes that follow the header, kind, number of the call
CALL_HEADER = struct.Struct("<HdH")  # number of the method, deadline on the clock of time.monotonic, bytes of the peer
LEFT_TO_THE_ENGINE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals to which a front does nothing by itself, also where all processes get them."""
READ_AHEAD = 1
"""Messages of a stream that may be under way in either direction, and have not been taken."""
ASK_SECONDS = 1.0
"""How often a front asks the engine whether it is there."""
SENT_AT_ONCE = 256 * 1024
"""Bytes, about: what comes together up to there is copied together, and beyond it nothing waits for more."""


class Kind(IntEnum):
    """What a message of a link is about."""

    HELLO = 1
    """To the front: where to listen, and the methods there are, in JSON."""
    READY = 2
    """To the engine: the front serves. Or it does not, and why."""
    CALL = 3
    """To the engine: CALL_HEADER, the peer, and the request of a unary call."""
    MESSAGE = 4
    """One of a stream's messages."""
    TAKEN = 5
    """A message of a stream was taken: there is room for another."""
    END = 6
    """To the engine: the caller has no more to send."""
    CANCEL = 7
    """To the engine: nobody waits any more."""
    ANSWER = 8
    """To the front: a unary call's response, or the good end of a stream."""
    STATUS = 9
    """To the front: how a call failed, a google.rpc.Status."""
    LEAVE = 10
    """To the front: say NOT_SERVING."""
    STOP = 11
    """To the front: end within so many seconds, a number in JSON."""
    ARE_YOU_THERE = 12
    """To the engine, every now and then."""
    HERE_I_AM = 13
    """To the front, in answer."""
    IS_READY = 14
    """To the front: say whether the services are ready, in JSON."""


Received = Callable[[int, int, bytes], None]
"""Takes a message: its kind, the number of its call, and what it holds."""


class Link(asyncio.Protocol):
    """One end. What is sent in one round of the event loop goes out together; `received_bytes` have come so far."""

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
        """Send a message; where nobody is any more, do nothing."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        length = sum(map(len, parts))
        self._unsent.append(_HEADER.pack(length, kind, call))
        self._unsent += parts
        self._unsent_bytes += _HEADER.size + length
        if self._unsent_bytes > SENT_AT_ONCE:
            self._flush()

    async def room(self) -> None:
        """Wait while the other end is far behind."""
        while not self._has_room.is_set():  # whoever was first may have filled it again
            await self._has_room.wait()

    @property
    def backlog_bytes(self) -> int:
        """What has been sent and waits in this process."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def gone_bytes(self) -> int:
        """What has been sent and has left this process."""
        return self._sent_bytes - self.backlog_bytes

    async def silence(self, most: int, *, ask: bool) -> None:
        """Wait until the other end gives no sign of life `most` times in a row, about a second each.

        A sign is what it sends, and that it takes what waits for it: being far behind is no reason. Times are counted,
        and not seconds, so that a pause of both ends is not taken for a silence of one.
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
        """Send what is to be sent, and end."""
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
        """Begin."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The other end has gone."""
        self._has_room.set()
        self._lost()

    def pause_writing(self) -> None:
        """The other end is far behind."""
        self._has_room.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._has_room.set()

    def data_received(self, data: bytes) -> None:
        """Hand on every message that is complete."""
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
