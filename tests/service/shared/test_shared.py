"""What servers share about models: read when it changes, kept apart from sessions, and counted over all tenants."""

import os
import uuid
from collections import Counter

import pytest
from support.models import tiny_model
from support.redis_process import RedisProcess

from statecast.service.metrics import Metrics
from statecast.service.models.policies import Policies
from statecast.service.models.registry import Model, Registry
from statecast.service.session_key import session_key
from statecast.service.shared import census
from statecast.service.shared.documents import Documents
from statecast.service.shared.outline import Outline
from statecast.service.shared.watch import SharedWatch
from statecast.service.store.connection import connect
from statecast.service.store.record import Snapshot, encode_snapshot
from statecast.service.store.redis_store import Commit, Operation, Store
from statecast.service.version import Version

TTL_MS = 60_000


@pytest.fixture
def stores(any_redis: RedisProcess) -> list[Store]:
    namespace = uuid.uuid4().hex
    return [Store(connect(any_redis.url, 2.0), namespace) for _ in range(3)]


def put(store: Store, key: str, version: str, lifetime_ms: int = 2 * TTL_MS, **others: bool) -> None:
    snapshot = Snapshot(Version(1, 2), None, TTL_MS, model="m", model_version=version, width=1, **others)  # type: ignore[arg-type]
    payload = encode_snapshot(key, snapshot, os.urandom(16))
    store.commit([Commit(key, Operation.REPLACE, b"", payload, lifetime_ms)])


def test_open_sessions_of_all_tenants_are_counted(stores: list[Store]) -> None:
    store = stores[0]
    for number in range(1200):  # several pages
        put(store, session_key("acme" if number % 2 else "default", f"a:{number}"), "1" if number % 3 else "2")
    put(store, "closed", "1", closed=True)
    put(store, "ended", "1", ended=True)
    put(store, "expired", "1", lifetime_ms=TTL_MS // 2)
    Documents(store).change_policies(lambda policies: policies.with_policy("m", "follow"))
    found = census.count(store)
    assert found is not None
    assert found == Counter({("m", "1", bytes(32)): 800, ("m", "2", bytes(32)): 400})
    assert census.count(store, lambda _: True) is None
    tenants, cursor = set[str](), 0
    while len(tenants) < 600:
        page, cursor = store.scan("acme", "", cursor, 10_000)
        tenants.update(page)
        assert cursor or len(tenants) == 600
    assert not any(key.startswith("default") for key in tenants)


def test_policies_that_are_lost_in_redis_are_given_up_only_if_they_stay_away(stores: list[Store]) -> None:
    documents, registry = Documents(stores[0]), Registry([Model(tiny_model())], "tiny")
    watch = SharedWatch(stores[1], stores[2], registry, Metrics())
    own = documents.change_policies(lambda policies: policies.with_alias("tiny", "live", "1"))
    watch._look()
    assert registry.policies == own
    newer = own.with_policy("tiny", "follow")
    registry.adopt(newer)  # a change by this server, which a look that began before does not know
    epoch = registry.epoch
    watch._look()
    assert (registry.policies, registry.epoch is epoch) == (newer, True)
    watch._look()
    assert registry.policies == own


def test_an_outline_outlives_its_model(stores: list[Store]) -> None:
    model = Model(tiny_model())
    for store in stores[:2]:
        Documents(store).publish([model])
    assert Documents(stores[2]).outline(model.digest_bytes) == Outline.of(model)
    assert Documents(stores[2]).outline(bytes(32)) is None


def test_what_a_newer_server_has_added_is_passed_over() -> None:
    policies = Policies().with_alias("m", "live", "2").with_retired("m", "1", is_retired=True)
    assert Policies.from_json(policies.to_json()[:-1] + b', "later": 1}') == policies
    for damaged in (b"[]", b"{}", b"\xff"):
        with pytest.raises(ValueError, match=r"not policies|decode|Expecting"):
            Policies.from_json(damaged)
