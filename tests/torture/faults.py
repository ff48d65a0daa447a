"""The faults, and the number of times to inject each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torture import cancelled, damage, expiry, failover, network, power, processes, upgrades
from torture.callers import Load
from torture.load import Report

USUAL = Load()
# Sessions are few, so that other callers advance those in the batch of a stopped server. The timeout is short,
# so that its callers turn to the other server in the meantime.
CROWDED = Load(chains=32, tinies=8, timeout_seconds=1.5)
# For faults that lose acknowledged observations: each session has one caller, whose client replays them in order.
OWNED = Load(threads=6, streams=0, forks=0.0, owned=True)


@dataclass(frozen=True)
class Fault:
    """A fault to inject."""

    name: str
    run: Callable[[int], Report]
    times: int
    quickly: int


FAULTS = [
    Fault("replies-dropped", partial(network.replies_dropped, load=USUAL), 3000, 200),
    Fault("requests-dropped", partial(network.requests_dropped, load=USUAL), 3000, 200),
    Fault("connections-cut", partial(network.connections_cut, load=USUAL), 300, 20),
    Fault("servers-killed", partial(processes.servers_killed, load=USUAL), 20, 2),
    Fault("envoy-killed", partial(processes.envoy_killed, load=USUAL), 20, 3),
    Fault("servers-stopped", partial(processes.servers_stopped, load=CROWDED), 50, 3),
    Fault("redis-killed-always", partial(processes.redis_killed, load=USUAL, appendfsync="always"), 10, 2),
    Fault("redis-killed-everysec", partial(processes.redis_killed, load=USUAL, appendfsync="everysec"), 10, 2),
    Fault("power-lost", partial(power.power_lost, load=OWNED), 10, 2),
    Fault("scripts-flushed", partial(processes.scripts_flushed, load=USUAL), 20, 5),
    Fault("calls-cancelled", partial(cancelled.calls_cancelled, load=USUAL), 20_000, 800),
    Fault("redis-full", partial(processes.redis_full, load=USUAL), 8, 2),
    Fault("sessions-expiring", partial(expiry.sessions_expiring, load=USUAL), 1000, 100),
    Fault("sessions-upgraded", partial(upgrades.sessions_upgraded, sessions=10_000), 20, 2),
    Fault("records-damaged", partial(damage.records_damaged, seed=1), 10_000, 500),
    *(
        Fault(f"{kind}-{name}", partial(run, load=load, kind=kind), 5, 1)
        for kind in ("redis", "valkey")
        for name, run, load in (
            ("slots-moved", failover.slots_moved, USUAL),
            ("replica-promoted", failover.replica_promoted, USUAL),
            ("primary-killed", failover.primary_killed, OWNED),
            ("primary-cut-off", failover.primary_cut_off, OWNED),
            ("watched-primary-killed", failover.watched_primary_killed, OWNED),
            ("watched-primary-cut-off", failover.watched_primary_cut_off, OWNED),
        )
    ),
]
