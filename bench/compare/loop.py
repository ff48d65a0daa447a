"""Closed loops: every caller waits for its answer before it asks again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from .usage import Reading, Watched, other_cores, server_seconds


class Done(NamedTuple):
    """What one call brought: observations answered, and bytes of its messages in both directions (0: not known)."""

    observations: int
    message_bytes: int


Call: TypeAlias = Callable[[], Awaitable[Done]]


@dataclass(frozen=True)
class Pace:
    """How long a load lasts before it is measured and while it is, in seconds."""

    warm_seconds: float
    seconds: float


@dataclass(frozen=True)
class Measured:
    """What a load has shown; microseconds and bytes are those of one observation.

    Attributes:
        observations: How many were answered.
        seconds: In how long.
        p50_ms: Median time of a call.
        p99_ms: What 99 in 100 calls did not exceed.
        server_us: CPU of the server.
        redis_us: CPU of Redis.
        client_us: CPU of the process that made the load.
        aof_bytes: What Redis wrote to its append-only file.
        network_bytes: Request and response.
        counts_loopback: Whether those are bytes on the loopback, and not of the messages alone.
        other_cores: How many cores were busy with something else meanwhile.
    """

    observations: int
    seconds: float
    p50_ms: float
    p99_ms: float
    server_us: float
    redis_us: float
    client_us: float
    aof_bytes: float
    network_bytes: float
    counts_loopback: bool
    other_cores: float

    @property
    def rate(self) -> float:
        """Observations answered a second."""
        return self.observations / self.seconds


@dataclass
class Tally:
    """The calls of one measurement: their seconds, and what they brought."""

    seconds: list[float] = field(default_factory=list)
    observations: int = 0
    message_bytes: int = 0

    def add(self, started: float, done: Done) -> None:
        """Take note of a call that began at `started`, of time.perf_counter."""
        self.seconds.append(time.perf_counter() - started)
        self.observations += done.observations
        self.message_bytes += done.message_bytes

    def between(self, before: Reading, after: Reading) -> Measured:
        """What these calls and two readings around them say.

        Raises:
            RuntimeError: if no call was answered.
        """
        if not self.observations:
            raise RuntimeError("no answer came while it was measured")
        times = sorted(self.seconds)
        network = self.message_bytes or after.loopback_bytes - before.loopback_bytes
        count = self.observations
        return Measured(
            observations=count,
            seconds=after.at - before.at,
            p50_ms=1e3 * times[len(times) // 2],
            p99_ms=1e3 * times[int(0.99 * len(times))],
            server_us=1e6 * server_seconds(before, after) / count,
            redis_us=1e6 * (after.redis_seconds - before.redis_seconds) / count,
            client_us=1e6 * (after.client_seconds - before.client_seconds) / count,
            aof_bytes=(after.aof_bytes - before.aof_bytes) / count,
            network_bytes=network / count,
            counts_loopback=not self.message_bytes,
            other_cores=other_cores(before, after),
        )


async def closed_loop(calls: Sequence[Call], pace: Pace, watched: Watched) -> Measured:
    """One caller for each of `calls`, which makes its call again and again."""
    tally, is_over = Tally(), False

    async def caller(call: Call) -> None:
        while not is_over:
            started = time.perf_counter()
            done = await call()
            tally.add(started, done)

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(caller(call))
        await asyncio.sleep(pace.warm_seconds)
        # What is under way counts once it is answered; so does what was sent before, but not what is answered after.
        before, tally = watched.read(), Tally()
        await asyncio.sleep(pace.seconds)
        after, counted, tally = watched.read(), tally, Tally()
        is_over = True
    return counted.between(before, after)


async def in_turn(call: Call, count: int, watched: Watched) -> Measured:
    """One caller who makes `count` calls, for calls too long to be cut by the clock."""
    tally, before = Tally(), watched.read()
    for _ in range(count):
        started = time.perf_counter()
        tally.add(started, await call())
    return tally.between(before, watched.read())
