"""A short run of a few faults, each injected a few times; `make torture` runs all faults."""

from collections.abc import Callable
from functools import partial

import pytest

from torture import cancelled, damage, expiry, failover, network, processes, upgrades
from torture.callers import Load
from torture.load import Report

FEW = Load(chains=30, tinies=10)
FEW_OWNED = Load(chains=30, tinies=10, threads=4, streams=0, forks=0.0, owned=True)


@pytest.mark.parametrize(
    ("times", "run"),
    [
        (60, partial(network.replies_dropped, load=FEW)),
        (60, partial(network.requests_dropped, load=FEW)),
        (5, partial(network.connections_cut, load=FEW)),
        (1, partial(processes.servers_killed, load=FEW)),
        (2, partial(processes.envoy_killed, load=FEW)),
        (1, partial(processes.redis_killed, load=FEW, appendfsync="always")),
        (3, partial(processes.scripts_flushed, load=FEW)),
        (1, partial(processes.redis_full, load=FEW)),
        (200, partial(cancelled.calls_cancelled, load=FEW)),
        (20, partial(expiry.sessions_expiring, load=FEW)),
        (2, partial(upgrades.sessions_upgraded, sessions=200, pause_seconds=0.2)),
        (100, partial(damage.records_damaged, seed=1)),
        (2, partial(failover.slots_moved, load=FEW, kind="valkey", slots_at_once=40)),
        (1, partial(failover.primary_killed, load=FEW_OWNED, kind="redis")),
    ],
    ids=lambda value: value.func.__name__ if isinstance(value, partial) else str(value),
)
def test_nothing_is_lost_doubled_or_mixed_up(times: int, run: Callable[[int], Report]) -> None:
    report = run(times)
    assert report.wrong == []
    assert report.injected >= times
    assert report.outcomes["acked"]


def test_a_server_that_was_stopped_between_load_and_commit_overwrites_nothing() -> None:
    crowded = Load(chains=10, tinies=2, timeout_seconds=0.7)
    report = processes.servers_stopped(3, crowded, longest_seconds=1.2)
    assert report.wrong == []
    assert "stale" in report.notes
