"""Faults of a cluster of six nodes, and of a primary that Sentinels watch: slots move, primaries go and come back.

A replica that takes over may lack the last writes. Then callers must hear of the loss, and send those values again.
"""

import random
import signal
import time
from collections.abc import Callable
from functools import partial

from support.redis_cluster import Node, RedisCluster, WatchedRedis
from support.redis_process import binary_of

from torture.callers import Load, wait_until
from torture.cluster import SERVERS, Setting, Stage
from torture.load import Report, under_load

FAILOVER_SECONDS = 20.0
UNREPLICATED_SECONDS = 0.3
"""Time for which a primary goes on without its replica before it is killed."""
SYNCED_SECONDS = 2.0
"""Time until every session has reached the replicas; losing a whole session is another fault."""


def slots_moved(count: int, load: Load, kind: str, slots_at_once: int = 500) -> Report:
    """Move many slots from one primary to another."""
    dice = random.Random(load.seed)

    def inject(stage: Stage) -> tuple[int, str]:
        cluster = stage.cluster
        moved = 0
        for _ in range(count):
            time.sleep(0.5)
            source, target = dice.sample(cluster.primaries, 2)
            slots = dice.sample(cluster.slots_of(source), slots_at_once)
            cluster.move(slots, source, target)
            moved += len(slots)
        return count, f"{moved:,} slots moved"

    return under_load(inject, load, _clustered(kind))


def replica_promoted(count: int, load: Load, kind: str) -> Report:
    """Let a replica take over from its primary as for maintenance, without a loss."""

    def inject(stage: Stage) -> tuple[int, str]:
        for number in range(count):
            time.sleep(0.5)
            stage.cluster.fail_over(stage.cluster.primaries[number % len(stage.cluster.primaries)])
            assert wait_until(stage.cluster.is_well, FAILOVER_SECONDS)
        return count, ""

    return under_load(inject, load, _clustered(kind))


def primary_killed(count: int, load: Load, kind: str) -> Report:
    """Kill a primary whose replica lacks its last writes; the replica takes over, and the primary comes back."""

    def inject(stage: Stage) -> tuple[int, str]:
        time.sleep(SYNCED_SECONDS)
        for number in range(count):
            killed = stage.cluster.primaries[number % len(stage.cluster.primaries)]
            _kill_without_replica(killed)
            _await_successor(stage.cluster, killed)
            killed.start()
            assert wait_until(stage.cluster.is_well, FAILOVER_SECONDS)
            time.sleep(SYNCED_SECONDS)
        return count, _noticed(stage)

    return under_load(inject, load, _clustered(kind))


def primary_cut_off(count: int, load: Load, kind: str) -> Report:
    """Suspend a primary, as a partition does: connections to it stay, but nothing comes; then let it go on."""

    def inject(stage: Stage) -> tuple[int, str]:
        time.sleep(SYNCED_SECONDS)
        for number in range(count):
            stopped = stage.cluster.primaries[number % len(stage.cluster.primaries)]
            stopped.signal(signal.SIGSTOP)
            try:
                _await_successor(stage.cluster, stopped)
            finally:
                stopped.signal(signal.SIGCONT)
            assert wait_until(stage.cluster.is_well, FAILOVER_SECONDS)
            time.sleep(SYNCED_SECONDS)
        return count, _noticed(stage, must=False)

    return under_load(inject, load, _clustered(kind))


def watched_primary_killed(count: int, load: Load, kind: str) -> Report:
    """Kill the primary that Sentinels watch, when its replica lacks its last writes."""
    return _watched(count, load, kind, _kill_without_replica, Node.start, must=True)


def watched_primary_cut_off(count: int, load: Load, kind: str) -> Report:
    """Suspend the primary that Sentinels watch until its replica has taken over."""
    stop, resume = (partial(_signal, number=number) for number in (signal.SIGSTOP, signal.SIGCONT))
    return _watched(count, load, kind, stop, resume, must=False)


def _watched(
    count: int, load: Load, kind: str, strike: Callable[[Node], None], mend: Callable[[Node], None], *, must: bool
) -> Report:
    def inject(stage: Stage) -> tuple[int, str]:
        time.sleep(SYNCED_SECONDS)
        for _ in range(count):
            struck, successor = stage.watched.primary, stage.watched.replica
            strike(struck)
            try:
                assert wait_until(partial(_leads, successor), FAILOVER_SECONDS), "no replica took over"
            finally:
                mend(struck)
            assert wait_until(stage.watched.is_well, FAILOVER_SECONDS)
            time.sleep(SYNCED_SECONDS)
        return count, _noticed(stage, must=must)

    return under_load(inject, load, Setting(nodes=partial(WatchedRedis, binary_of(kind))))


def _clustered(kind: str) -> Setting:
    return Setting(nodes=partial(RedisCluster, binary_of(kind)), server_options=("--redis-timeout-seconds", "0.5"))


def _kill_without_replica(primary: Node) -> None:
    """Let a primary go on for a moment while its replica cannot follow it, then kill it."""
    primary.client.execute_command("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
    primary.client.execute_command("CLIENT", "KILL", "TYPE", "REPLICA")
    time.sleep(UNREPLICATED_SECONDS)
    primary.kill()


def _await_successor(cluster: RedisCluster, gone: Node) -> None:
    others = [node for node in cluster.nodes if node is not gone]
    assert wait_until(lambda: cluster.is_served_by(others), FAILOVER_SECONDS), "no replica took over"


def _leads(node: Node) -> bool:
    return bool(node.client.info("replication")["role"] == "master")


def _signal(node: Node, number: signal.Signals) -> None:
    node.signal(number)


def _noticed(stage: Stage, *, must: bool = True) -> str:
    noticed = sum(stage.counter(number, "regressed") for number in range(SERVERS))
    assert noticed or not must, "no request met a session that had lost anything, so this proves nothing"
    return f"{noticed:,.0f} requests met a session that had regressed"
