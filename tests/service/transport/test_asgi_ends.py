"""Calls over ASGI that end early: their callers go, do not send, or send too much."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from support.asgi import DISCONNECT, HEADERS, Caller, echo, forever, part

from statecast.service.rpc.methods import Method
from statecast.service.transport import asgi, asgi_call
from statecast.service.transport.framing import framed


def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (asgi, asgi_call):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)


async def test_a_caller_that_goes_cancels_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    look_often(monkeypatch)
    cancelled = asyncio.Event()

    async def answer(*_: object) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    caller = Caller(answer)
    await caller.transport.start()
    # Whoever asks once more after the end of a body gets an empty part at once.
    call = asyncio.ensure_future(caller.call(part(framed(b"a")), part(b""), part(b"")))
    await asyncio.sleep(0.1)
    assert not call.done()
    assert caller.events.empty()
    caller.events.put_nowait(DISCONNECT)
    await asyncio.wait_for(call, 5)
    assert cancelled.is_set()
    assert not caller.sent
    await caller.transport.stop(0)


async def test_a_stream_whose_caller_goes_ends_although_nobody_reads() -> None:
    async def answer(_: object, context: Any) -> bytes:
        assert await context.read() == b"a"
        await asyncio.Event().wait()
        return b""

    caller = Caller(answer, is_stream=True)
    await asyncio.wait_for(caller.call(part(framed(b"a"), more=True), DISCONNECT), 5)
    assert not [event for event in caller.sent if event["type"] == "http.response.trailers"]


async def test_a_stream_to_a_caller_that_has_gone_ends_at_its_next_message() -> None:
    caller = Caller(forever, is_stream=True)

    async def answer(_: object, context: Any) -> bytes:
        caller.has_gone = True
        await context.write(b"x")
        return b"never"

    caller = Caller(answer, is_stream=True)
    await asyncio.wait_for(caller.call(part(b"")), 5)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_deadline_ends_a_call(is_stream: bool) -> None:
    caller = Caller(forever, is_stream=is_stream)
    headers = [*HEADERS, (b"grpc-timeout", b"20m")]
    await asyncio.wait_for(caller.call(part(framed(b"")), headers=headers), 5)
    assert caller.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_one_caller_cannot_fill_the_memory_with_parts_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_call, "CALL_BYTES", 0)
    calls = [Caller(echo) for _ in range(6)]  # a message has 1,000 bytes at most, and 4,000 of all may be arriving
    for call in calls:
        call.transport = calls[0].transport
    half, rest = framed(b"x" * 900)[:800], framed(b"x" * 900)[800:]
    waiting = [asyncio.ensure_future(call.call(part(half, more=True))) for call in calls[:4]]
    await asyncio.sleep(0.01)
    *_, refused, later = calls
    await refused.call(part(half, more=True))
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert b"on this connection" in refused.trailers[b"grpc-message"]
    for call in calls[:4]:
        call.events.put_nowait(part(rest))
    await asyncio.wait(waiting)
    await later.call(part(half, more=True), part(rest))
    assert [call.code.name for call in calls] == ["OK"] * 4 + ["RESOURCE_EXHAUSTED", "OK"]


async def test_one_caller_cannot_fill_the_memory_with_open_calls() -> None:
    calls = [Caller(forever, most=4000) for _ in range(7)]  # 16,000 bytes of all calls, and 2,048 for each
    for call in calls:
        call.transport = calls[0].transport
    *opened, refused = calls
    tasks = [asyncio.ensure_future(call.call(part(framed(b"")))) for call in opened]
    await asyncio.sleep(0.01)
    await refused.call(part(framed(b"")))
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    again = asyncio.ensure_future(refused.call(part(framed(b""))))
    await asyncio.sleep(0.01)
    assert not again.done()
    again.cancel()
    await asyncio.wait([again])


async def test_whoever_is_not_known_cannot_take_the_room_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health admits everybody; its open calls have a room of their own."""
    monkeypatch.setattr(asgi, "STRANGERS_BYTES", 4 * asgi_call.CALL_BYTES)
    caller = Caller(forever, most=10_000)
    caller.transport._methods = {
        "/a.B/C": Method(False, lambda data: data, echo, lambda _: None),
        "/health": Method(True, lambda data: data, forever),
    }
    strangers = [Caller(forever) for _ in range(5)]
    for each in strangers:
        each.transport = caller.transport
    tasks = [asyncio.ensure_future(each.call(part(b"", more=True), path="/health")) for each in strangers]
    done, _ = await asyncio.wait(tasks, timeout=0.05)
    assert len(done) >= 1
    await caller.call(part(framed(b"hi")))
    assert caller.code is grpc.StatusCode.OK
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_stream_of_a_stranger_that_stays_silent_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_call, "MESSAGE_SECONDS", 0.05)
    look_often(monkeypatch)

    async def read(_: Any, context: Any) -> bytes:
        return bytes(await context.read())

    caller = Caller(read, is_stream=True)
    caller.transport._methods = {"/a.B/C": Method(True, lambda data: data, read)}
    await caller.transport.start()
    await asyncio.wait_for(caller.call(), 2)
    assert caller.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await caller.transport.stop(0)


async def test_a_message_whose_call_ends_while_it_is_sent_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    sent = asyncio.get_running_loop().create_future()

    async def answer(_: object, context: Any) -> bytes:
        await context.write(b"x")
        return b""

    caller = Caller(answer, is_stream=True)
    started = asyncio.Event()

    def send(event: Any) -> Any:
        if event["type"] == "http.response.body":
            started.set()
            return sent
        return asyncio.sleep(0)

    caller._send = send  # type: ignore[method-assign]
    call = asyncio.ensure_future(caller.call(part(b"")))
    await started.wait()
    call.cancel()
    await asyncio.wait([call])
    sent.set_exception(OSError())  # as the ASGI server does; it must be possible
    await asyncio.sleep(0)
    assert not caplog.records


async def test_what_has_arrived_counts_until_its_message_is_read() -> None:
    async def read_all(_: Any, context: Any) -> bytes:
        while await context.read() is not grpc.aio.EOF:
            pass
        return b""

    caller = Caller(read_all, is_stream=True)
    message = framed(b"x" * 900)
    parts = [part(each, more=True) for _ in range(20) for each in (message[:500], message[500:])]
    await caller.call(*parts, part(b""))  # 18,100 bytes in all, and 4,000 at once may be arriving
    assert caller.code == grpc.StatusCode.OK


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_message_that_does_not_come_ends_its_call(monkeypatch: pytest.MonkeyPatch, is_stream: bool) -> None:
    monkeypatch.setattr(asgi_call, "MESSAGE_SECONDS", 0.2)
    look_often(monkeypatch)

    async def read(_: Any, context: Any) -> bytes:
        return bytes(await context.read())

    caller = Caller(read if is_stream else echo, is_stream=is_stream)
    await caller.transport.start()
    call = asyncio.ensure_future(caller.call())
    for byte in framed(b"slow")[:-1]:  # each in good time
        caller.events.put_nowait(part(bytes([byte]), more=True))
        await asyncio.sleep(0.05)
    await asyncio.wait_for(call, 1)
    assert caller.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "bytes of a message have come" in caller.trailers[b"grpc-message"].decode()
    await caller.transport.stop(0)


async def test_a_silent_stream_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_call, "MESSAGE_SECONDS", 0.02)
    look_often(monkeypatch)

    async def read_two(_: Any, context: Any) -> bytes:
        await context.read()
        await context.read()
        return b""

    caller = Caller(read_two, is_stream=True)
    await caller.transport.start()
    call = asyncio.ensure_future(caller.call(part(framed(b"one"), more=True)))
    await asyncio.sleep(0.1)
    caller.events.put_nowait(part(framed(b"two")))
    await asyncio.wait_for(call, 1)
    assert caller.code == grpc.StatusCode.OK
    await caller.transport.stop(0)
