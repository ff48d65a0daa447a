"""The primary that Sentinels name is found, and left when they name another."""

import signal
import time
import uuid
from collections.abc import Iterator

import pytest
from support import await_true, short_folder
from support.redis_cluster import WatchedRedis
from support.redis_process import binary_of

from statecast.service.errors import StartupError, Unavailable
from statecast.service.store.connection import connect, open_redis
from statecast.service.store.nodes import probe
from statecast.service.store.redis_store import Commit, Operation, Store, Verdict
from statecast.service.store.requirements import require
from statecast.service.store.sentinels import FRESH_SECONDS
from statecast.v1.reasons import Reason

STAMP = b"s" * 16


@pytest.fixture(scope="module", params=["redis", "valkey"])
def watched(request: pytest.FixtureRequest) -> Iterator[WatchedRedis]:
    with short_folder() as folder:
        watched = WatchedRedis(binary_of(request.param), folder)
        yield watched
        watched.stop()


def refused(url: str) -> str:
    with pytest.raises(StartupError) as caught:
        require(open_redis(url, 1.0), url, "statecast", allow_volatile=False)
    return str(caught.value)


def put(store: Store, name: str) -> Verdict | Exception:
    return store.commit([Commit(name, Operation.REPLACE, b"", name.encode() + STAMP, 60_000)])[name]


def test_the_wrong_url_is_told_with_the_right_one(watched: WatchedRedis) -> None:
    sentinel = watched.sentinels[0].address
    assert refused(f"redis://{sentinel}").endswith(
        f"is a Sentinel; set redis-url to redis+sentinel://{sentinel}/sessions"
    )
    assert "the Sentinels know no primary named 'other'" in refused(f"redis+sentinel://{sentinel}/other")
    assert "name those of its Sentinels" in refused(f"redis+sentinel://{watched.primary.address}/sessions")
    assert "is not part of a cluster" in refused(f"redis+cluster://{watched.primary.address}")
    assert "no Sentinel answers" in refused("redis+sentinel://127.0.0.1:1/sessions")
    require(connect(watched.url, 1.0), watched.url, "statecast", allow_volatile=False)


def test_a_primary_that_hangs_is_left_for_the_one_that_took_over(watched: WatchedRedis) -> None:
    namespace = uuid.uuid4().hex
    client = connect(watched.url, 0.3)
    store, idle = Store(client, namespace), Store(client, namespace)
    assert put(store, "before") is put(idle, "other") is Verdict.DONE
    await_true(lambda: watched.replica.client.exists(f"{namespace}:default:before") == 1)
    old = watched.primary
    old.signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            put(store, "lost")
        await_true(lambda: _stored(store, "before"))
        assert put(store, "after") is Verdict.DONE
    finally:
        old.signal(signal.SIGCONT)
    # For a moment the old primary goes on, since it has not heard of its successor.
    assert put(idle, "late") is Verdict.DONE
    probe(client)
    assert watched.primary is not old
    for name in ("before", "after", "late"):
        assert watched.primary.client.exists(f"{namespace}:default:{name}") == 1
    store.close()


def test_a_primary_whose_sentinels_are_gone_can_still_be_used(watched: WatchedRedis) -> None:
    client = connect(watched.url, 1.0)
    store = Store(client, uuid.uuid4().hex)
    assert put(store, "before") is Verdict.DONE
    client.ping()
    for sentinel in watched.sentinels:
        sentinel.kill()
    assert probe(client) == {}
    assert put(store, "after") is Verdict.DONE
    store.close()
    time.sleep(2 * FRESH_SECONDS)
    with pytest.raises(Unavailable, match="no Sentinel answers") as caught:
        put(store, "closed")
    assert caught.value.reason is Reason.STORE_UNREACHABLE


def _stored(store: Store, name: str) -> bool:
    try:
        return store.load([name])[0] is not None
    except Unavailable:
        return False
