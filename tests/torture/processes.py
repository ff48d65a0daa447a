"""Faults of processes: servers and Redis are killed, paused or out of memory."""

import random
import signal
import time
from functools import partial
from typing import Any

import redis

from torture.callers import Load, wait_until
from torture.cluster import SERVERS, Setting, Stage
from torture.load import Report, under_load


def servers_killed(count: int, load: Load) -> Report:
    """Kill one server after the other, and restart each on its port."""

    def inject(stage: Stage) -> tuple[int, str]:
        for number in range(count):
            time.sleep(0.5)
            stage.kill_server(number % SERVERS)
        return count, ""

    return under_load(inject, load)


def envoy_killed(count: int, load: Load) -> Report:
    """Kill Envoy with the engine inside it; the server's own process ends with an error."""

    def inject(stage: Stage) -> tuple[int, str]:
        for _ in range(count):
            time.sleep(0.5)
            assert stage.kill_envoy() == 1
        return count, ""

    return under_load(inject, load)


def servers_stopped(count: int, load: Load, longest_seconds: float = 5.0) -> Report:
    """Pause a server between load and commit; meanwhile the other server advances its sessions."""
    dice = random.Random(load.seed)

    def inject(stage: Stage) -> tuple[int, str]:
        stale = 0
        for number in range(count):
            time.sleep(0.5)
            server = number % SERVERS
            before = stage.counter(server, "conflicts")
            stage.hold_file(server).touch()
            assert wait_until(stage.held_file(server).exists), "no batch came"
            stage.signal_server(server, signal.SIGSTOP)
            time.sleep(dice.uniform(1.0, longest_seconds))
            stage.held_file(server).unlink()
            stage.signal_server(server, signal.SIGCONT)
            stale += wait_until(partial(stage.has_grown, server, "conflicts", before), 1.0)
        assert stale, "no server that was stopped ever had a stale state, so this proves nothing"
        return count, f"{stale} woke up with a stale state"

    return under_load(inject, load)


def redis_killed(count: int, load: Load, appendfsync: str) -> Report:
    """Kill Redis, and restart it from its append-only file."""
    dice = random.Random(load.seed)

    def inject(stage: Stage) -> tuple[int, str]:
        for _ in range(count):
            time.sleep(dice.uniform(0.5, 1.5))
            stage.redis.kill()
            time.sleep(dice.uniform(0.0, 1.0))
            stage.redis.start()
        return count, ""

    return under_load(inject, load, Setting(appendfsync=appendfsync))


def scripts_flushed(count: int, load: Load) -> Report:
    """Flush the scripts in Redis, which the servers call by their digests."""

    def inject(stage: Stage) -> tuple[int, str]:
        with stage.redis.client as client:
            for _ in range(count):
                time.sleep(0.2)
                client.script_flush()
        time.sleep(0.2)
        return count, ""

    return under_load(inject, load)


def redis_full(count: int, load: Load) -> Report:
    """Leave Redis without memory for a second."""

    def inject(stage: Stage) -> tuple[int, str]:
        tried = 0
        with stage.redis.client as client:
            for _ in range(count):
                time.sleep(0.5)
                client.config_set("maxmemory", 1)  # one byte, less than Redis itself uses
                before = _counts(client)
                time.sleep(1.0)
                scripts, writes, deletions = (after - at for after, at in zip(_counts(client), before, strict=True))
                client.config_set("maxmemory", 0)
                assert scripts, "no commit met a full Redis, so this proves nothing"
                # A batch that closes a session first deletes its record; after that, its script may go on to write.
                assert deletions or not writes, "Redis still wrote, so this proves nothing"
                tried += scripts
        return count, f"{tried:,} commits met a full Redis"

    return under_load(inject, load)


def _counts(client: redis.Redis) -> tuple[int, int, int]:
    """Return the number of scripts that Redis has run, of writes, and of deletions."""
    statistics: Any = client.info("commandstats")
    calls = {name: each["calls"] for name, each in statistics.items()}
    scripts, deletions, *writes = (calls.get(f"cmdstat_{name}", 0) for name in ("evalsha", "del", "append", "set"))
    return scripts, sum(writes), deletions
