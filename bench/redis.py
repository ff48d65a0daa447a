"""What a commit costs one Redis, a primary behind Sentinels or a cluster, and the server: python -m bench.redis URL

Each URL gets batches of appends, as the engine makes them. A figure is the best of several rounds, since other work on
the machine only adds to it.
"""

import os
import time
import uuid
from typing import Any

import click
from bench.compare.sizes import FRAME_SESSIONS

from statecast.service.store.connection import open_redis
from statecast.service.store.nodes import Client, nodes_of, probe
from statecast.service.store.redis_store import Commit, Operation, Store, Verdict

SNAPSHOT_BYTES, ENTRY_BYTES, LIFETIME_MS = 4096, 44, 3_600_000
ROUNDS, BATCHES = 10, 100


@click.command()
@click.argument("urls", nargs=-1, required=True)
def main(urls: tuple[str, ...]) -> None:
    """Print microseconds for a session of a batch: CPU of Redis, CPU of the caller, and the time until the answer."""
    click.echo("| | Redis us | caller us | waited us |\n|---|---|---|---|")
    for url in urls:
        client = open_redis(url, 5.0)
        probe(client)
        figures = min(measure(client) for _ in range(ROUNDS))
        click.echo(f"| {url.partition(':')[0]} | " + " | ".join(f"{each:.1f}" for each in figures) + " |")
        client.close()


def measure(client: Client) -> tuple[float, float, float]:
    """Return the figures of one round, for one session."""
    store, stamp = Store(client, f"bench-{uuid.uuid4().hex}"), os.urandom(16)
    keys = [f"session {number}" for number in range(FRAME_SESSIONS)]
    snapshot = os.urandom(SNAPSHOT_BYTES)
    _commit(store, [Commit(key, Operation.REPLACE, b"", snapshot + stamp, LIFETIME_MS) for key in keys])
    used, own, started = _cpu(client), time.thread_time(), time.perf_counter()
    for _ in range(BATCHES):
        after = os.urandom(16)
        entry = os.urandom(ENTRY_BYTES) + after
        _commit(store, [Commit(key, Operation.APPEND, stamp, entry, LIFETIME_MS) for key in keys])
        stamp = after
    waited, own, used = time.perf_counter() - started, time.thread_time() - own, _cpu(client) - used
    _commit(store, [Commit(key, Operation.CLOSE, stamp, b"", 1) for key in keys])
    sessions = BATCHES * len(keys)
    return 1e6 * used / sessions, 1e6 * own / sessions, 1e6 * waited / sessions


def _commit(store: Store, commits: list[Commit]) -> None:
    if set(store.commit(commits).values()) != {Verdict.DONE}:
        raise click.ClickException("Redis has not carried out all commits")


def _cpu(client: Client) -> float:
    """Return the seconds of CPU that the main threads of all primaries have used."""
    found: list[Any] = [node.info("cpu") for node in nodes_of(client).values()]
    return float(sum(each["used_cpu_user_main_thread"] + each["used_cpu_sys_main_thread"] for each in found))


if __name__ == "__main__":
    main()
