"""Messages of a link arrive whole and in order, however the socket splits them."""

import asyncio
import socket
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from statecast.service.edge.link import Kind, Link

Message = tuple[int, int, bytes]
messages = st.lists(
    st.tuples(st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.lists(st.binary(max_size=300), max_size=3)),
    max_size=20,
)


class Wire(asyncio.Transport):
    """A transport that keeps all bytes written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return False


async def _sent(wanted: list[tuple[Kind, int, list[bytes]]]) -> bytes:
    link, wire = Link(lambda *message: None, lambda: None), Wire()
    link.connection_made(wire)
    for kind, call, parts in wanted:
        link.send(kind, call, *parts)
    await asyncio.sleep(0)
    return wire.written


async def _received(pieces: list[bytes]) -> list[Message]:
    found: list[Message] = []
    link = Link(lambda *message: found.append(message), lambda: None)
    for piece in pieces:
        link.data_received(piece)
    return found


@given(messages, st.lists(st.floats(0, 1), max_size=10))
def test_messages_come_whole_and_in_order(wanted: list[tuple[Kind, int, list[bytes]]], cuts: list[float]) -> None:
    written = asyncio.run(_sent(wanted))
    places = [0, *sorted(round(cut * len(written)) for cut in cuts), len(written)]
    pieces = [written[start:end] for start, end in pairwise(places)]
    expected = [(kind, call, b"".join(parts)) for kind, call, parts in wanted]
    assert asyncio.run(_received(pieces)) == expected


async def test_who_waits_for_room_looks_again() -> None:
    link = Link(lambda *message: None, lambda: None)
    link.pause_writing()

    async def fill() -> None:
        await link.room()
        link.pause_writing()

    first, second = asyncio.ensure_future(fill()), asyncio.ensure_future(fill())
    await asyncio.sleep(0)
    link.resume_writing()
    await asyncio.sleep(0.01)
    assert first.done()
    assert not second.done()
    link.resume_writing()
    await asyncio.wait_for(second, 5)


async def test_who_sends_more_than_is_read_waits_for_room() -> None:
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, link = await loop.create_unix_connection(lambda: Link(lambda *message: None, lambda: None), sock=ours)
    await asyncio.wait_for(link.room(), 5)
    for _ in range(32):
        link.send(Kind.CALL, 1, bytes(2**20))
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(link.room())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    theirs.setblocking(False)
    while not waiting.done():
        await loop.sock_recv(theirs, 2**20)
    theirs.close()
    link.close()
