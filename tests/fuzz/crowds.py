"""Very many streams at once, on one connection and without a thread for each."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from fuzz.place import MIB, SECONDS, Place
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1.forecast_service_pb2_grpc import ForecastServiceStub

STREAM_BYTES = 160 * 1024
"""Most memory that an accepted or refused stream may cost the server."""
SPARE_BYTES = 64 * MIB
LONGEST_UNARY_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
_STEP_SECONDS = 0.02
WAVE = 500
"""Streams opened at once, because gRPC itself refuses thousands at a time."""
HELLO = pb.ForecastStreamRequest(requests=[pb.ForecastRequest(session_id="crowd", request_id="hello")])
"""A frame of one request, which is answered although its session does not exist."""
FULL, CUT_OFF = "RESOURCE_EXHAUSTED STREAMS_FULL", "cut off"
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


@dataclass
class Crowd:
    """The results of many streams."""

    count: int
    turned_away: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    growth: int = 0
    slowest_unary_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.count:,} streams: {self.answered:,} answered, refused {dict(self.turned_away)}, "
            f"peak +{self.growth / MIB:.0f} MiB, slowest unary call {self.slowest_unary_seconds:.2f} s, "
            f"{len(self.wrong)} wrong"
        )


async def crowd(place: Place, count: int, limit: int, *, sending: bool) -> Crowd:
    """Open `count` streams on a server that accepts `limit`, keep them open for a while, then end them.

    All share a connection, which gets four fifths of the server's streams.
    """
    limit = math.ceil(0.8 * limit)
    report = Crowd(count)
    place.forget_peak()
    before, seen = place.rss(), place.streams_seen()
    async with grpc.aio.insecure_channel(place.server.target, OPTIONS) as channel:
        stub: Any = ForecastServiceStub(channel)
        lone = asyncio.ensure_future(_unary_calls(place, report))
        calls: list[Any] = []
        while len(calls) < count:
            wave = [stub.ForecastStream() for _ in range(min(WAVE, count - len(calls)))]
            calls += wave
            if sending:
                await asyncio.gather(*(_say_hello(call, report) for call in wave))
            if not await _holds_slowly(partial(_has_seen, place, len(calls), seen)):
                report.wrong.append(f"the server has not seen all {len(calls)} streams")
        turned_away = max(count - limit, 0)
        if not await _holds(lambda: sum(call.done() for call in calls) >= turned_away):
            report.wrong.append(f"{sum(call.done() for call in calls)} were refused, not {turned_away}")
        if (under_way := await asyncio.to_thread(place.streams)) != min(count, limit):
            report.wrong.append(f"{under_way} are in flight, not {min(count, limit)}")
        lone.cancel()
        await asyncio.gather(lone, return_exceptions=True)
        for call in calls:
            if call.done():
                report.turned_away[await _named(call)] += 1
        # A client that sends may miss the reason because of its own timing; one that waits must get it.
        for _ in range(report.turned_away[CUT_OFF]):
            again = stub.ForecastStream(timeout=PATIENCE_SECONDS)
            await again.code()
            if (heard := await _named(again)) != FULL:
                report.wrong.append(f"one that was cut off and tried again got {heard}")
        await _let_go([call for call in calls if not call.done()], report)
    report.growth = place.peak() - before
    await _judge(place, report, limit, sending=sending)
    return report


async def _judge(place: Place, report: Crowd, limit: int, *, sending: bool) -> None:
    if not await _holds_slowly(lambda: place.streams() == 0):
        report.wrong.append(f"{place.streams()} streams are still in flight")
    turned_away = max(report.count - limit, 0)
    told = report.turned_away[FULL] + (report.turned_away[CUT_OFF] if sending else 0)
    if told != turned_away or report.turned_away.total() != told:
        report.wrong.append(f"refused: {report.turned_away}")
    if sending and report.answered != min(report.count, limit):
        report.wrong.append(f"{report.answered} were answered, not {min(report.count, limit)}")
    if report.growth > report.count * STREAM_BYTES + SPARE_BYTES:
        report.wrong.append(f"needed {report.growth / MIB:.0f} MiB")
    if not 0 < report.slowest_unary_seconds < LONGEST_UNARY_SECONDS:
        report.wrong.append(f"a unary call meanwhile took {report.slowest_unary_seconds:.1f} s")
    report.wrong += place.trouble()


def _has_seen(place: Place, count: int, before: int) -> bool:
    return place.streams_seen() - before >= count


async def _say_hello(call: Any, report: Crowd) -> None:
    try:
        await call.write(HELLO)
        frame = await call.read()
        report.answered += frame is not grpc.aio.EOF and len(frame.results) == 1
    except (grpc.RpcError, asyncio.InvalidStateError):  # refused: the code is checked later
        pass


async def _unary_calls(place: Place, report: Crowd) -> None:
    """Make another client's calls, one after the other, until stopped."""
    async with grpc.aio.insecure_channel(place.server.target, OPTIONS) as channel:
        stub: Any = ForecastServiceStub(channel)
        while True:
            started = time.perf_counter()
            await stub.ListSessions(pb.ListSessionsRequest(prefix="crowd"), timeout=SECONDS)
            report.slowest_unary_seconds = max(report.slowest_unary_seconds, time.perf_counter() - started)
            await asyncio.sleep(_STEP_SECONDS)


async def _let_go(calls: list[Any], report: Crowd) -> None:
    """End half of the streams properly, and cancel the other half."""
    for number, call in enumerate(calls):
        if number % 2:
            call.cancel()
        else:
            await call.done_writing()
    for call in calls[::2]:
        while await call.read() is not grpc.aio.EOF:
            pass
        if (code := await call.code()) is not grpc.StatusCode.OK:
            report.wrong.append(f"a stream that ended itself ended with {code}")


async def _named(call: Any) -> str:
    """Return the code and reason of a refused stream; a refusal during a write looks like this client's own failure."""
    if "SendMessageOperation" in (await call.debug_error_string() or ""):
        return CUT_OFF
    details = dict(await call.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    for packed in status.details:
        packed.Unpack(info)
    return f"{(await call.code()).name} {info.reason}".strip()


async def _holds(condition: Callable[[], bool]) -> bool:
    """Return True if the condition comes true in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_STEP_SECONDS)
    return True


async def _holds_slowly(condition: Callable[[], bool]) -> bool:
    """Return True if a condition that awaits the server comes true in time."""
    deadline = time.monotonic() + SECONDS
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(10 * _STEP_SECONDS)
    return True


async def torrent(place: Place, frames: int, requests_a_frame: int) -> Crowd:
    """Send very many tiny requests on one stream, and read their results only later."""
    report = Crowd(1)
    place.forget_peak()
    before, sent = place.rss(), 0
    frame = pb.ForecastStreamRequest(requests=[pb.ForecastRequest()] * requests_a_frame)
    async with grpc.aio.insecure_channel(place.server.target, OPTIONS) as channel:
        stub: Any = ForecastServiceStub(channel)
        call = stub.ForecastStream()

        async def write() -> None:
            nonlocal sent
            for _ in range(frames):
                await call.write(frame)
                sent += 1
            await call.done_writing()

        writer = asyncio.ensure_future(write())
        lone = asyncio.ensure_future(_unary_calls(place, report))
        seen = -1
        while seen != sent:  # until everything is written, or the server stops reading
            seen = sent
            await asyncio.sleep(50 * _STEP_SECONDS)
        report.growth = place.peak() - before
        async for answer in call:
            report.answered += len(answer.results)
        await writer
        lone.cancel()
        await asyncio.gather(lone, return_exceptions=True)
        if (code := await call.code()) is not grpc.StatusCode.OK:
            report.wrong.append(f"ended with {code}")
    if report.answered != frames * requests_a_frame:
        report.wrong.append(f"{report.answered} results of {frames * requests_a_frame} requests")
    report.growth = max(report.growth, place.peak() - before)
    if report.growth > SPARE_BYTES:
        report.wrong.append(f"needed {report.growth / MIB:.0f} MiB")
    if not 0 < report.slowest_unary_seconds < LONGEST_UNARY_SECONDS:
        report.wrong.append(f"a unary call meanwhile took {report.slowest_unary_seconds:.1f} s")
    report.wrong += place.trouble()
    return report
