"""Calls over ASGI, without a server: what is sent for what is received."""

import asyncio
from base64 import b64decode
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2
from support.asgi import HEADERS, Caller, echo, forever, part

from statecast.service.errors import NotFound
from statecast.service.rpc.methods import Method
from statecast.service.rpc.status import to_status
from statecast.service.transport.framing import framed
from statecast.v1.reasons import Reason


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
        {"headers": [(b"content-type", b"application/grpc+json"), TE]},
        {"headers": [(b"content-type", b"application/grpcfoo"), TE]},
        {"headers": [(b"content-type", b"application/grpc")]},  # the status could not be sent
    ],
)
async def test_what_is_no_grpc_is_told_what_this_is(others: dict[str, Any]) -> None:
    caller = Caller(echo)
    await caller.call(part(b""), **others)
    assert caller.sent[0]["status"] == 415
    assert (b"gRPC is a POST" in caller.body) == (others.get("method") != "HEAD")


@pytest.mark.parametrize("kind", [b"application/grpc+proto", b"Application/GRPC; charset=utf-8"])
async def test_a_content_type_has_variants(kind: bytes) -> None:
    caller = Caller(echo)
    await caller.call(part(framed(b"hi")), headers=[(b"content-type", kind), TE])
    assert caller.code is grpc.StatusCode.OK


async def test_a_long_path_is_not_sent_back_whole() -> None:
    caller = Caller(echo)
    await caller.call(part(framed(b"")), path="/" + "x" * 20_000)
    assert len(caller.trailers[b"grpc-message"]) < 200


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


async def test_a_bug_in_admission_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    def admit(_: object) -> None:
        raise TypeError("a bug")

    caller = Caller(echo)
    caller.transport._methods = {"/a.B/C": Method(False, lambda data: data, echo, admit)}
    await caller.call(part(framed(b"hi")))
    assert (caller.body, caller.code) == (b"", grpc.StatusCode.INTERNAL)
    assert "a bug" in caplog.text
