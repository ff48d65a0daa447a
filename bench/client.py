"""The Python client's own CPU time for each observation: python -m bench.client.

The server is a process of its own; the client's process makes all calls, and nothing else.
"""

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from bench.compare.models import plain_config, write_models
from bench.compare.names import PLAIN
from bench.compare.servers import serve
from bench.compare.sizes import FRAME_SESSIONS, HORIZON

from statecast.client import AsyncClient, Client, Forecast

WARM_ROUNDS = 4
Load = Callable[[str, str, int], float]


def calls(target: str, name: str, rounds: int) -> float:
    """Return the CPU seconds of `rounds` steps of each session, one call after the other."""
    with Client(target, timeout_seconds=60) as client:
        sessions = [client.session(f"{name}-{number}", PLAIN) for number in range(FRAME_SESSIONS)]

        def work(rounds: int) -> None:
            for at in range(rounds):
                for session in sessions:
                    session.step(float(at), HORIZON)

        return _measured(work, rounds)


def step_many(target: str, name: str, rounds: int) -> float:
    """Return the CPU seconds of `rounds` calls of `step_many`."""
    with Client(target, timeout_seconds=60) as client:
        sessions = [client.session(f"{name}-{number}", PLAIN) for number in range(FRAME_SESSIONS)]

        def work(rounds: int) -> None:
            for at in range(rounds):
                client.step_many([(session, float(at)) for session in sessions], HORIZON)

        return _measured(work, rounds)


def stream(target: str, name: str, rounds: int) -> float:
    """Return the CPU seconds of a stream of `rounds` steps of each session."""
    with Client(target, timeout_seconds=60) as client:
        sessions = [client.session(f"{name}-{number}", PLAIN) for number in range(FRAME_SESSIONS)]

        def work(rounds: int) -> None:
            pairs = ((session, float(at)) for at in range(rounds) for session in sessions)
            for _, result in client.stream(pairs, HORIZON):
                if not isinstance(result, Forecast):
                    raise click.ClickException(str(result))

        return _measured(work, rounds)


def tasks(target: str, name: str, rounds: int) -> float:
    """Return the CPU seconds of a task for each session, each of which awaits `rounds` steps of an `AsyncClient`."""

    async def measure() -> float:
        async with AsyncClient(target, timeout_seconds=60) as client:
            sessions = [client.session(f"{name}-{number}", PLAIN) for number in range(FRAME_SESSIONS)]

            async def work(rounds: int) -> None:
                async with asyncio.TaskGroup() as group:
                    for session in sessions:
                        group.create_task(steps(session, rounds))

            async def steps(session: Any, rounds: int) -> None:
                for at in range(rounds):
                    await session.step(float(at), HORIZON)

            await work(WARM_ROUNDS)
            started = time.process_time()
            await work(rounds)
            return time.process_time() - started

    return asyncio.run(measure())


def _measured(work: Callable[[int], None], rounds: int) -> float:
    work(WARM_ROUNDS)
    started = time.process_time()
    work(rounds)
    return time.process_time() - started


LOADS: Mapping[str, Load] = {
    "`Client`, a call each": calls,
    f"`AsyncClient`, {FRAME_SESSIONS} tasks": tasks,
    f"`step_many` of {FRAME_SESSIONS}": step_many,
    "`Client.stream`": stream,
}


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=100, show_default=True, help="Steps of each session.")
def main(rounds: int) -> None:
    """Print the client's CPU time for each observation, in microseconds, as a Markdown table."""
    os.environ["no_grpc_proxy"] = "127.0.0.1"  # noqa: SIM112
    with tempfile.TemporaryDirectory(prefix="statecast-client-") as folder:
        models = write_models(Path(folder), plain_config())
        with serve(models, PLAIN) as server:
            gc.collect()
            gc.freeze()  # a client's process has not loaded what the server and the models need
            click.echo("| | client, us |\n|---|---|")
            for at, (name, load) in enumerate(LOADS.items()):
                seconds = load(server.target, f"client-{at}", rounds)
                click.echo(f"| {name} | {1e6 * seconds / (rounds * FRAME_SESSIONS):.1f} |")


if __name__ == "__main__":
    main()
