"""Closed loops: every caller waits for its answer before it makes its next call."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from .usage import Reading, Watched, other_cores, server_seconds


class Done(NamedTuple):
    """The result of one call.

    Attributes:
        observations: Observations answered.
        message_bytes: Bytes of request and response; 0 if unknown.
    """

    observations: int
    message_bytes: int


Call: TypeAlias = Callable[[], Awaitable[Done]]


@dataclass(frozen=True)
class Pace:
    """Durations of a load: its warm-up and its measurement, in seconds."""

    warm_seconds: float
    seconds: float


@dataclass(frozen=True)
class Measured:
    """The measurement of a load; microseconds and bytes are per observation.

    Attributes:
        observations: Observations answered.
        seconds: Duration of the measurement.
        p50_ms: Median time of a call.
        p99_ms: 99th percentile of the time of a call.
        server_us: CPU of the server.
        redis_us: CPU of Redis.
        client_us: CPU of the process that made the load.
        aof_bytes: Bytes that Redis wrote to its append-only file.
        network_bytes: Bytes of request and response.
        counts_loopback: True if `network_bytes` counts the whole loopback traffic, not only the messages.
        other_cores: Number of cores that other processes kept busy.
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
        """Return the observations answered a second."""
        return self.observations / self.seconds


@dataclass
class Tally:
    """The calls of one measurement: their durations, and the sums of their results."""

    seconds: list[float] = field(default_factory=list)
    observations: int = 0
    message_bytes: int = 0

    def add(self, started: float, done: Done) -> None:
        """Record a call that began at `started`, a time of time.perf_counter."""
        self.seconds.append(time.perf_counter() - started)
        self.observations += done.observations
        self.message_bytes += done.message_bytes

    def between(self, before: Reading, after: Reading) -> Measured:
        """Return the measurement of these calls from the readings before and after them.

        Raises:
            RuntimeError: If no call was answered.
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
    """Run one caller for each of `calls`, which repeats its call, and measure them."""
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
        # A call counts if its answer comes during the measurement, even if it was sent before.
        before, tally = watched.read(), Tally()
        await asyncio.sleep(pace.seconds)
        after, counted, tally = watched.read(), tally, Tally()
        is_over = True
    return counted.between(before, after)


async def in_turn(call: Call, count: int, watched: Watched) -> Measured:
    """Make `count` calls in a row and measure them; for calls that are too long to stop by the clock."""
    tally, before = Tally(), watched.read()
    for _ in range(count):
        started = time.perf_counter()
        tally.add(started, await call())
    return tally.between(before, watched.read())
