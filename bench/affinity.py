"""Compare sessions that hop between replicas with sessions that stay at one: python -m bench.affinity.

One client, several servers and one Redis on this machine. The client's requests go to replicas drawn at random, and in
turn with that, to the replica of each session. All else is the same.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import redis
from bench.compare.models import plain_config, write_models
from bench.compare.names import PLAIN
from bench.compare.servers import private_redis
from bench.compare.sizes import FRAME_SESSIONS, HORIZON
from bench.compare.usage import cpu_seconds, process_tree

from statecast.client import AsyncClient, AsyncSession
from statecast.testing import LocalServer

WARM_ROUNDS, TURNS = 4, 3
Load = Callable[[AsyncClient, Sequence[AsyncSession], float], Awaitable[None]]


class Usage(NamedTuple):
    """Usage up to a moment: time, CPU of the servers and of Redis, bytes read from Redis and written to it."""

    seconds: float
    server_seconds: float
    redis_seconds: float
    read_bytes: float
    written_bytes: float


class Site:
    """Servers on one Redis."""

    def __init__(self, servers: list[LocalServer], url: str) -> None:
        self.target = "ipv4:" + ",".join(server.target for server in servers)
        self._servers, self._redis = servers, redis.Redis.from_url(url)

    def usage(self) -> Usage:
        """Return what was used so far."""
        found: Any = self._redis.info()
        cpu = sum(cpu_seconds(pid) for server in self._servers for pid in process_tree(server.process_id))
        redis_cpu = found["used_cpu_user"] + found["used_cpu_sys"]
        bytes_ = found["total_net_output_bytes"], found["total_net_input_bytes"]
        return Usage(time.perf_counter(), cpu, redis_cpu, *bytes_)


@contextmanager
def serving(models: Path, replicas: int) -> Iterator[Site]:
    """Run servers of these models on a Redis of their own."""
    with private_redis() as embedded, ExitStack() as stack:
        options = ("--models", str(models), "--redis-url", embedded.url, "--kernels", "on")
        servers = [LocalServer(*options, environment={"OMP_NUM_THREADS": "1"}) for _ in range(replicas)]
        for server in servers:
            stack.enter_context(server)
        yield Site(servers, embedded.url)


async def tasks(_: AsyncClient, sessions: Sequence[AsyncSession], value: float) -> None:
    """Step each session in a task of its own."""
    await asyncio.gather(*(session.step(value, HORIZON) for session in sessions))


async def frames(client: AsyncClient, sessions: Sequence[AsyncSession], value: float) -> None:
    """Step all sessions in one call."""
    await client.step_many([(session, value) for session in sessions], HORIZON)


LOADS: Mapping[str, Load] = {
    f"`AsyncClient`, {FRAME_SESSIONS} tasks": tasks,
    f"`step_many` of {FRAME_SESSIONS}": frames,
}


async def measure(site: Site, name: str, load: Load, rounds: int) -> dict[str, Usage]:
    """Return what a load uses for an observation, if sessions hop and if they stay."""
    async with AsyncClient(site.target, timeout_seconds=60) as client:
        sessions = [client.session(f"{name}-{number}", PLAIN) for number in range(FRAME_SESSIONS)]
        await load(client, sessions, 0.0)
        replicas = client._connect()
        every_one = list(replicas._ring.by_address.values())
        ways: dict[str, Callable[[str], Any]] = {"hop": lambda _: random.choice(every_one), "stay": replicas.of}
        used = dict.fromkeys(ways, Usage(0.0, 0.0, 0.0, 0.0, 0.0))
        for _ in range(TURNS):
            for way, choose in ways.items():
                replicas.of = choose  # type: ignore[method-assign,assignment]
                for _ in range(WARM_ROUNDS):
                    await load(client, sessions, 1.0)
                before = site.usage()
                for at in range(rounds):
                    await load(client, sessions, float(at))
                used[way] = Usage(*(sum(each) for each in zip(used[way], _since(before, site.usage()), strict=True)))
    steps = TURNS * rounds * FRAME_SESSIONS
    return {way: Usage(*(each / steps for each in total)) for way, total in used.items()}


def _since(before: Usage, after: Usage) -> Usage:
    return Usage(*(new - old for old, new in zip(before, after, strict=True)))


@click.command()
@click.option("--replicas", type=click.IntRange(min=2), default=3, show_default=True, help="Number of servers.")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=30, show_default=True, help="Steps of each session a turn."
)
def main(replicas: int, rounds: int) -> None:
    """Print what an observation and its forecast take, as a Markdown table."""
    click.echo(
        "| | sessions | observations/s | server us | Redis us | read B | written B |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory(prefix="statecast-affinity-") as folder, ExitStack() as stack:
        site = stack.enter_context(serving(write_models(Path(folder), plain_config()), replicas))
        for at, (name, load) in enumerate(LOADS.items()):
            for way, used in asyncio.run(measure(site, f"load-{at}", load, rounds)).items():
                cells = f"{1e6 * used.server_seconds:.0f} | {1e6 * used.redis_seconds:.1f}"
                sizes = f"{used.read_bytes:,.0f} | {used.written_bytes:,.0f}"
                click.echo(f"| {name} | {way} | {1 / used.seconds:,.0f} | {cells} | {sizes} |")


if __name__ == "__main__":
    main()
