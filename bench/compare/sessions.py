"""What the number of observations behind a session and the number of sessions change; runs where load is made."""

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
    """Calls of `CATCH_UP_STEPS` observations of one session, one after the other."""

    async def measure() -> Measured:
        async with channel_to(target) as channel:
            await open_sessions(channel, ["catch-up"], PLAIN)
            call = forecast_call(channel, "catch-up", CATCH_UP_STEPS)
            await call()
            return await in_turn(call, calls, watched)

    return asyncio.run(measure())


def compare_history(target: str, watched: Watched, sizes: Sizes) -> History:
    """A new session and one with a long history take turns, so that a noisy machine disturbs both alike."""

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
    """A turn of a session that begins, and one of that with the history: the server's CPU in us an observation."""
    name = f"early-{number}"
    await open_sessions(channel, [name], PLAIN)
    await forecast_call(channel, name, EARLY_STEPS - 1)()
    early = await in_turn(forecast_call(channel, name), sizes.history_calls, watched)
    late = await in_turn(forecast_call(channel, "late"), sizes.history_calls, watched)
    return early.server_us, late.server_us


def populate(target: str, name: str, sessions: int) -> float:
    """Opens so many sessions; how many a second."""

    async def fill() -> float:
        started = time.perf_counter()
        async with channel_to(target) as channel:
            # Most of them are read from Redis whenever their turn comes, and so rewritten early.
            await open_sessions(channel, session_names(name, sessions), PLAIN, MOST_REPLAYED + 1)
        return sessions / (time.perf_counter() - started)

    return asyncio.run(fill())
