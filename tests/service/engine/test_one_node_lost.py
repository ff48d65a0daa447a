"""When one node of a cluster does not answer, its sessions alone are affected, and nothing is applied twice."""

import signal

from support import await_true
from support.engines import observe, one, step_of, version_of
from support.redis_cluster import RedisCluster

from statecast.service.engine.engine import Engine
from statecast.service.engine.plan import Planner
from statecast.service.engine.request import Outcome
from statecast.service.engine.session_cache import SessionCache
from statecast.service.errors import Unavailable
from statecast.service.metrics import Metrics
from statecast.service.models.registry import Registry
from statecast.service.store.cluster import Cluster
from statecast.service.store.connection import open_redis
from statecast.service.store.redis_store import Store

SESSIONS = [f"pump {number}" for number in range(30)]


def test_its_sessions_leave_memory_and_are_repeated_once(
    registry: Registry, redis_cluster: RedisCluster, namespace: str
) -> None:
    cluster = open_redis(redis_cluster.url, 0.4)
    assert isinstance(cluster, Cluster)
    cache = SessionCache(100)
    planner = Planner(registry, default_ttl_ms=60_000, max_steps=1000)
    engine = Engine(registry, Store(cluster, namespace), cache, planner, Metrics(), snapshot_every=4)
    for name in SESSIONS:
        one(engine, observe(name, 1.0))
    batch = {name: [observe(name, 2.0, request_id=b"second")] for name in SESSIONS}
    stopped = redis_cluster.primaries[0]
    stopped.signal(signal.SIGSTOP)
    try:
        results = engine.run(batch)
        in_memory = dict(zip(SESSIONS, cache.find(SESSIONS), strict=True))
        cache.let_go(SESSIONS)
    finally:
        stopped.signal(signal.SIGCONT)
    lost = [name for name in SESSIONS if not isinstance(results[name][0], Outcome)]
    assert 0 < len(lost) < len(SESSIONS)
    assert all(isinstance(results[name][0], Unavailable) for name in lost)
    assert lost == [name for name in SESSIONS if in_memory[name] is None]
    assert not engine.store_is_lost  # queued requests for other nodes are not refused
    await_true(lambda: not cluster.probe())
    for name in SESSIONS:
        outcome = one(engine, batch[name][0])
        assert outcome.version == version_of([1.0, 2.0])
        assert outcome.replayed or name in lost
        assert step_of(one(engine, observe(name, 3.0))) == 3
    await_true(redis_cluster.is_well)
    cluster.close()
