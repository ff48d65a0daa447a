from collections.abc import Callable, Iterator

import pytest
from support.collector import Collector, collecting
from support.models import tiny_model
from support.redis_process import RedisProcess

from statecast.service.engine.engine import Engine
from statecast.service.engine.plan import Planner
from statecast.service.engine.session_cache import SessionCache
from statecast.service.metrics import Metrics
from statecast.service.models.registry import Model, Registry
from statecast.service.store.connection import connect
from statecast.service.store.redis_store import Store


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def make_engine(any_redis: RedisProcess, session_id: str) -> Callable[[], Engine]:
    """Creates engines that share one Redis, as replicas do."""
    registry = Registry([Model(tiny_model("tiny"))], "tiny")

    def make() -> Engine:
        planner, store = Planner(registry, 60_000, 1000), Store(connect(any_redis.url, 2.0), session_id)
        return Engine(registry, store, SessionCache(1000), planner, Metrics(), snapshot_every=4)

    return make
