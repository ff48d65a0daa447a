"""Measurements of long sessions and of many sessions; they run in the process that makes load."""

import asyncio
import statistics
import time

import grpc.aio

from statecast.service.engine.write import MOST_REPLAYED

from .findings import History
from .loads import channel_to, forecast_call, open_sessions, session_names
from .loop import Measured, in_turn
from .names import PLAIN
from .sizes import CATCH_UP_STEPS, Sizes
from .usage import Watched

EARLY_STEPS = 10


def catch_up(target: str, watched: Watched, calls: int) -> Measured:
    """Measure calls of `CATCH_UP_STEPS` observations each to one session, one after the other."""

    async def measure() -> Measured:
        async with channel_to(target) as channel:
            await open_sessions(channel, ["catch-up"], PLAIN)
            call = forecast_call(channel, "catch-up", CATCH_UP_STEPS)
            await call()
            return await in_turn(call, calls, watched)

    return asyncio.run(measure())


def compare_history(target: str, watched: Watched, sizes: Sizes) -> History:
    """Compare new sessions with one of long history; they take turns, so that a noisy machine disturbs both alike."""

    async def measure() -> History:
        async with channel_to(target) as channel:
            await open_sessions(channel, ["late"], PLAIN)
            catching_up = forecast_call(channel, "late", CATCH_UP_STEPS)
            for _ in range(sizes.history_steps // CATCH_UP_STEPS):
                await catching_up()
            turns = [await _turns(channel, watched, number, sizes) for number in range(sizes.history_blocks)]
        early, late = (statistics.median(each) for each in zip(*turns, strict=True))
        return History(sizes.history_steps, early, late, statistics.median(after / before for before, after in turns))

    return asyncio.run(measure())


async def _turns(channel: grpc.aio.Channel, watched: Watched, number: int, sizes: Sizes) -> tuple[float, float]:
    """Run a turn of a new session and one of the long session; return the server's CPU of each in us an observation."""
    name = f"early-{number}"
    await open_sessions(channel, [name], PLAIN)
    await forecast_call(channel, name, EARLY_STEPS - 1)()
    early = await in_turn(forecast_call(channel, name), sizes.history_calls, watched)
    late = await in_turn(forecast_call(channel, "late"), sizes.history_calls, watched)
    return early.server_us, late.server_us


def populate(target: str, name: str, sessions: int) -> float:
    """Open `sessions` sessions, and return how many were opened a second."""

    async def fill() -> float:
        started = time.perf_counter()
        async with channel_to(target) as channel:
            # Most of these sessions are not cached but loaded from Redis, which makes their snapshots come early.
            await open_sessions(channel, session_names(name, sessions), PLAIN, MOST_REPLAYED + 1)
        return sessions / (time.perf_counter() - started)

    return asyncio.run(fill())
