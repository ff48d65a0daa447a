import time
import uuid
from collections.abc import Callable

import pytest
import torch
from support.engines import MakeEngine
from support.models import shop_model, symbol_model, tiny_model
from support.redis_process import RedisProcess

from statecast.service.engine.engine import Engine
from statecast.service.engine.plan import Planner
from statecast.service.engine.session_cache import SessionCache
from statecast.service.metrics import Metrics
from statecast.service.models.registry import Model, Registry
from statecast.service.store.connection import connect
from statecast.service.store.redis_store import Store


@pytest.fixture(scope="session")
def registry() -> Registry:
    models = [Model(tiny_model(name)) for name in ("tiny", "three", "hourly")]
    return Registry([*models, Model(shop_model()), Model(symbol_model())], "tiny")


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def make_engine(registry: Registry, any_redis: RedisProcess, namespace: str) -> MakeEngine:
    """Creates engines that share one Redis, as replicas do."""

    def make(
        *,
        snapshot_every: int = 4,
        capacity: int = 100,
        redis: RedisProcess = any_redis,
        registry: Registry = registry,
        timeout_seconds: float = 2.0,
        cache: SessionCache | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> Engine:
        store = Store(connect(redis.url, timeout_seconds), namespace)
        planner = Planner(registry, default_ttl_ms=60_000, max_steps=1000, now=now)
        kept = SessionCache(capacity) if cache is None else cache
        return Engine(registry, store, kept, planner, Metrics(), snapshot_every=snapshot_every)

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
