"""Calls over ASGI, without a server: what is sent for what is received, and when a call is cancelled."""

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2

from statecast.service.errors import NotFound
from statecast.service.rpc.methods import Method
from statecast.service.rpc.status import STATUS_CODES, to_status
from statecast.service.transport import asgi
from statecast.service.transport.asgi import AsgiTransport
from statecast.service.transport.framing import framed
from statecast.v1.reasons import Reason

Answer = Callable[[Any, Any], Awaitable[bytes | status_pb2.Status]]
DISCONNECT = {"type": "http.disconnect"}
HEADERS = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


class Caller:
    """An ASGI server with one call; events can be given before and during it."""

    def __init__(self, answer: Answer, *, is_stream: bool = False, most: int = 1000) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.has_gone = False
        self.left: list[str] = []
        methods = {"/a.B/C": Method(is_stream, lambda data: data, answer, lambda _: None)}
        self.transport = AsgiTransport(methods, most, 4 * most, self._listen, self._leave, lambda _: None)

    async def _listen(self) -> int:
        return 1234

    async def _leave(self) -> None:
        self.left.append("left")

    def _receive(self) -> "asyncio.Future[dict[str, Any]]":
        return asyncio.ensure_future(self.events.get())

    async def _send(self, event: Any) -> None:
        if self.has_gone:
            raise OSError
        self.sent.append(event)

    async def call(
        self,
        *events: dict[str, Any],
        headers: list[tuple[bytes, bytes]] = HEADERS,
        path: str = "/a.B/C",
        method: str = "POST",
    ) -> None:
        for event in events:
            self.events.put_nowait(event)
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": ("10.0.0.1", 5)}
        await self.transport.serve(scope, self._receive, self._send)

    @property
    def body(self) -> bytes:
        parts: list[bytes] = [event["body"] for event in self.sent if event["type"] == "http.response.body"]
        return b"".join(parts)

    @property
    def trailers(self) -> dict[bytes, bytes]:
        (found,) = (event["headers"] for event in self.sent if event["type"] == "http.response.trailers")
        return dict(found)

    @property
    def code(self) -> grpc.StatusCode:
        return STATUS_CODES[int(self.trailers[b"grpc-status"])]


async def echo(request: Any, context: Any) -> bytes:
    return bytes(request) + str(context.peer()).encode()


async def forever(request: Any, context: Any) -> bytes:
    await asyncio.Event().wait()
    return b""


@pytest.mark.parametrize(
    "events",
    [[part(framed(b"hi"))], [part(framed(b"hi")[:3], more=True), part(framed(b"hi")[3:], more=True), part(b"")]],
)
async def test_a_call_is_answered(events: list[dict[str, Any]]) -> None:
    caller = Caller(echo)
    await caller.call(*events)
    assert caller.sent[0]["status"] == 200
    assert caller.body == framed(b"hi10.0.0.1:5")
    assert caller.code is grpc.StatusCode.OK


async def test_an_error_comes_with_its_details() -> None:
    async def answer(*_: object) -> status_pb2.Status:
        return to_status(NotFound("there is no 'ä'", Reason.SESSION_NOT_FOUND))

    caller = Caller(answer)
    await caller.call(part(framed(b"")))
    assert (caller.body, caller.code) == (b"", grpc.StatusCode.NOT_FOUND)
    assert caller.trailers[b"grpc-message"] == b"there is no '%C3%A4'"
    details = caller.trailers[b"grpc-status-details-bin"]
    status = status_pb2.Status.FromString(b64decode(details + b"=" * (-len(details) % 4)))
    assert (status.code, len(status.details)) == (5, 1)


@pytest.mark.parametrize(
    ("events", "others", "code"),
    [
        ([part(framed(b""))], {"path": "/a.B/D"}, grpc.StatusCode.UNIMPLEMENTED),
        ([part(framed(b""))], {"headers": [*HEADERS, (b"grpc-encoding", b"br")]}, grpc.StatusCode.UNIMPLEMENTED),
        ([part(framed(b""))], {"headers": [*HEADERS, (b"grpc-timeout", b"soon")]}, grpc.StatusCode.INTERNAL),
        ([part(b"")], {}, grpc.StatusCode.INTERNAL),
        ([part(b"\7\0\0\0\0")], {}, grpc.StatusCode.INTERNAL),
        ([part(framed(b"a")[:-1])], {}, grpc.StatusCode.INTERNAL),
        ([part(framed(b"a") * 2)], {}, grpc.StatusCode.INTERNAL),
        ([part(framed(b"a"), more=True), part(framed(b"b"), more=True), part(b"")], {}, grpc.StatusCode.INTERNAL),
        ([part(framed(b"a" * 1001))], {}, grpc.StatusCode.RESOURCE_EXHAUSTED),
        # A body without an end: its prefix is enough.
        ([part(b"\0\0\xff\xff\xff", more=True)], {}, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_a_call_that_breaks_the_protocol_is_refused(
    events: list[dict[str, Any]], others: dict[str, Any], code: grpc.StatusCode
) -> None:
    caller = Caller(echo)
    await asyncio.wait_for(caller.call(*events, **others), 5)
    assert (caller.body, caller.code) == (b"", code)


TE = (b"te", b"trailers")


@pytest.mark.parametrize(
    "others",
    [
        {"method": "GET"},
        {"method": "HEAD"},
        {"headers": [(b"content-type", b"text/html"), TE]},
        {"headers": [(b"content-type", b"application/grpc+json"), TE]},
        {"headers": [(b"content-type", b"application/grpcfoo"), TE]},
        {"headers": [(b"content-type", b"application/grpc")]},  # the status could not be sent
        {"headers": []},
    ],
)
async def test_what_is_no_grpc_is_told_what_this_is(others: dict[str, Any]) -> None:
    caller = Caller(echo)
    await caller.call(part(b""), **others)
    assert caller.sent[0]["status"] == 415
    assert (b"speaks gRPC" in caller.body) == (others.get("method") != "HEAD")


@pytest.mark.parametrize("kind", [b"application/grpc+proto", b"Application/GRPC; charset=utf-8"])
async def test_a_content_type_has_variants(kind: bytes) -> None:
    caller = Caller(echo)
    await caller.call(part(framed(b"hi")), headers=[(b"content-type", kind), TE])
    assert caller.code is grpc.StatusCode.OK


async def test_a_long_path_is_not_sent_back_whole() -> None:
    caller = Caller(echo)
    await caller.call(part(framed(b"")), path="/" + "x" * 20_000)
    assert len(caller.trailers[b"grpc-message"]) < 200


async def test_a_caller_that_goes_cancels_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "_LOOK_SECONDS", 0.01)
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


async def test_a_method_knows_its_deadline() -> None:
    left: list[float | None] = []

    async def answer(_: object, context: Any) -> bytes:
        left.append(context.time_remaining())
        return b""

    await Caller(answer).call(part(framed(b"")), headers=[*HEADERS, (b"grpc-timeout", b"10S")])
    await Caller(answer).call(part(framed(b"")))
    assert left[0] == pytest.approx(10.0, abs=1.0)
    assert left[1] is None


async def test_messages_of_a_stream_are_read_and_written_in_order() -> None:
    async def answer(_: object, context: Any) -> bytes:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message + b"!")
        return b""

    caller = Caller(answer, is_stream=True)
    await caller.call(part(framed(b"a") + framed(b"b")[:4], more=True), part(framed(b"b")[4:], more=True), part(b""))
    assert caller.body == framed(b"a!") + framed(b"b!")
    assert caller.code is grpc.StatusCode.OK


async def test_a_broken_message_ends_its_stream_after_those_before_it() -> None:
    async def answer(_: object, context: Any) -> bytes:
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(message)
        return b""

    caller = Caller(answer, is_stream=True)
    await caller.call(part(framed(b"a") + b"\7\0\0\0\0", more=True))
    assert (caller.body, caller.code) == (framed(b"a"), grpc.StatusCode.INTERNAL)


async def test_a_reader_that_is_cancelled_loses_no_message() -> None:
    async def answer(_: object, context: Any) -> bytes:
        reader = asyncio.ensure_future(context.read())
        await asyncio.sleep(0.01)
        reader.cancel()
        caller.events.put_nowait(part(framed(b"a")))
        await asyncio.sleep(0.01)
        return bytes(await context.read())

    caller = Caller(answer, is_stream=True)
    await asyncio.wait_for(caller.call(), 5)
    assert caller.code is grpc.StatusCode.OK


async def test_calls_in_flight_finish_within_the_grace_period() -> None:
    go_on = asyncio.Event()

    async def answer(*_: object) -> bytes:
        await go_on.wait()
        return b"done"

    caller = Caller(answer)
    call = asyncio.ensure_future(caller.call(part(framed(b""))))
    await asyncio.sleep(0.01)
    stopping = asyncio.ensure_future(caller.transport.stop(10.0))
    await asyncio.sleep(0.05)
    assert (caller.left, stopping.done()) == (["left"], False)
    go_on.set()
    await asyncio.wait_for(stopping, 5)
    await call
    assert caller.code is grpc.StatusCode.OK


async def test_calls_that_take_longer_are_cut_off_with_a_status() -> None:
    caller = Caller(forever)
    call = asyncio.ensure_future(caller.call(part(framed(b""))))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(caller.transport.stop(0.02), 5)
    await call
    assert caller.code is grpc.StatusCode.UNAVAILABLE


async def test_a_bug_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(*_: object) -> bytes:
        raise ZeroDivisionError

    caller = Caller(answer)
    await caller.call(part(framed(b"")))
    assert caller.code is grpc.StatusCode.INTERNAL
    assert "ZeroDivisionError" in caplog.text


async def test_one_caller_cannot_fill_the_memory_with_parts_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "CALL_BYTES", 0)
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
    monkeypatch.setattr(asgi, "STRANGERS_BYTES", 4 * asgi.CALL_BYTES)
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
    monkeypatch.setattr(asgi, "MESSAGE_SECONDS", 0.05)
    monkeypatch.setattr(asgi, "_LOOK_SECONDS", 0.01)

    async def read(_: Any, context: Any) -> bytes:
        return bytes(await context.read())

    caller = Caller(read, is_stream=True)
    caller.transport._methods = {"/a.B/C": Method(True, lambda data: data, read)}
    await caller.transport.start()
    await asyncio.wait_for(caller.call(), 2)
    assert caller.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await caller.transport.stop(0)


async def test_a_bug_in_admission_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    def admit(_: object) -> None:
        raise TypeError("a bug")

    caller = Caller(echo)
    caller.transport._methods = {"/a.B/C": Method(False, lambda data: data, echo, admit)}
    await caller.call(part(framed(b"hi")))
    assert (caller.body, caller.code) == (b"", grpc.StatusCode.INTERNAL)
    assert "a bug" in caplog.text


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
    monkeypatch.setattr(asgi, "MESSAGE_SECONDS", 0.2)
    monkeypatch.setattr(asgi, "_LOOK_SECONDS", 0.01)

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
    monkeypatch.setattr(asgi, "MESSAGE_SECONDS", 0.02)
    monkeypatch.setattr(asgi, "_LOOK_SECONDS", 0.01)

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
