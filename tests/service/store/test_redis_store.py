import uuid

import pytest
import redis
from support.redis_process import RedisProcess

from statecast.service.errors import Overloaded, StoreRefuses, Unavailable
from statecast.service.session_key import id_of, session_key, tenant_of
from statecast.service.store.connection import connect
from statecast.service.store.redis_store import Commit, Operation, Store, Verdict
from statecast.v1.reasons import Reason

STAMPS = [bytes([number]) * 16 for number in range(8)]


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def store(every_redis: RedisProcess, namespace: str) -> Store:
    return Store(connect(every_redis.url, 2.0), namespace)


def put(store: Store, session_id: str, stamp: bytes, ttl_ms: int = 60_000) -> None:
    commit = Commit(session_id, Operation.REPLACE, b"", b"snapshot" + stamp, ttl_ms)
    assert store.commit([commit]) == {session_id: Verdict.DONE}


def load(store: Store, *session_ids: str) -> list[bytes | None]:
    """Return the records without their lifetimes."""
    return [stored and stored.data for stored in store.load(session_ids)]


def test_load_gives_each_record_or_none(store: Store) -> None:
    put(store, "a", STAMPS[1])
    assert load(store, "b", "a") == [None, b"snapshot" + STAMPS[1]]
    assert load(store) == []


def test_append_goes_behind_the_expected_stamp(store: Store) -> None:
    put(store, "a", STAMPS[1])
    append = Commit("a", Operation.APPEND, STAMPS[1], b"entry" + STAMPS[2], 60_000)
    assert store.commit([append]) == {"a": Verdict.DONE}
    assert store.commit([append]) == {"a": Verdict.CONFLICT}
    assert load(store, "a") == [b"snapshot" + STAMPS[1] + b"entry" + STAMPS[2]]


def test_only_sessions_in_conflict_stay_as_they_are(store: Store) -> None:
    for name in "abcd":
        put(store, name, STAMPS[1])
    verdicts = store.commit(
        [
            Commit("a", Operation.APPEND, STAMPS[7], b"x" + STAMPS[2], 60_000),
            Commit("b", Operation.REPLACE, STAMPS[1], b"y" + STAMPS[3], 60_000),
            Commit("c", Operation.CLOSE, STAMPS[1], b"trace" + STAMPS[6], 60_000),
            Commit("d", Operation.CHECK, STAMPS[1]),
            Commit("e", Operation.CHECK, STAMPS[1]),
            Commit("f", Operation.REPLACE, b"", b"z" + STAMPS[4], 60_000),
        ]
    )
    done, conflict = Verdict.DONE, Verdict.CONFLICT
    assert verdicts == {"a": conflict, "b": done, "c": done, "d": done, "e": conflict, "f": done}
    old = b"snapshot" + STAMPS[1]
    assert load(store, *"abcdef") == [old, b"y" + STAMPS[3], b"trace" + STAMPS[6], old, None, b"z" + STAMPS[4]]


def test_a_record_that_exists_is_not_created_again(store: Store) -> None:
    put(store, "a", STAMPS[1])
    create = Commit("a", Operation.REPLACE, b"", b"other" + STAMPS[2], 60_000)
    assert store.commit([create]) == {"a": Verdict.CONFLICT}


def test_a_write_renews_the_time_to_live(store: Store, every_redis: RedisProcess, namespace: str) -> None:
    put(store, "a", STAMPS[1], ttl_ms=10_000)
    key = f"{namespace}:default:a"
    assert 10_000 < every_redis.client.pttl(key) <= 10_625
    store.commit([Commit("a", Operation.APPEND, STAMPS[1], STAMPS[2], 90_000)])
    assert every_redis.client.pttl(key) > 90_000


@pytest.mark.parametrize(("left_ms", "is_renewed"), [(16_500, False), (15_500, True)])
def test_the_time_to_live_is_renewed_when_no_more_than_that_is_left(
    store: Store, every_redis: RedisProcess, namespace: str, left_ms: int, is_renewed: bool
) -> None:
    put(store, "a", STAMPS[1])
    key = f"{namespace}:default:a"
    every_redis.client.pexpire(key, left_ms)
    store.commit([Commit("a", Operation.APPEND, STAMPS[1], STAMPS[2], 16_000)])
    assert (every_redis.client.pttl(key) > left_ms) is is_renewed


def test_an_expired_session_takes_nothing_but_a_new_one_in_its_place(
    store: Store, every_redis: RedisProcess, namespace: str
) -> None:
    put(store, "a", STAMPS[1], ttl_ms=10_000)
    (stored,) = store.load(["a"])
    assert stored is not None
    assert 0 < stored.remaining_ms <= 10_625
    for operation in (Operation.CHECK, Operation.APPEND, Operation.REPLACE, Operation.CLOSE):
        late = Commit("a", operation, STAMPS[1], STAMPS[2], 90_000, tombstone_ms=11_000)
        assert store.commit([late]) == {"a": Verdict.CONFLICT}
    assert store.commit([Commit("a", Operation.CHECK, STAMPS[1], tombstone_ms=1_000)]) == {"a": Verdict.DONE}
    anew = Commit("a", Operation.REPLACE, STAMPS[1], b"anew" + STAMPS[2], 90_000)
    assert store.commit([anew]) == {"a": Verdict.DONE}
    every_redis.client.persist(f"{namespace}:default:a")  # a key without a lifetime has not expired
    assert store.commit([Commit("a", Operation.CHECK, STAMPS[2], tombstone_ms=10_000)]) == {"a": Verdict.DONE}
    assert store.load(["a"]) == [(b"anew" + STAMPS[2], -1)]


def test_scan_finds_every_session_with_the_prefix(store: Store, every_redis: RedisProcess, namespace: str) -> None:
    names = [f"[a]*-{number}" for number in range(50)]
    for name in (*names, "[a]other", "ax-1", session_key("acme", "[a]*-1"), session_key("acme", "x")):
        put(store, name, STAMPS[1])
    every_redis.client.rpush(f"{namespace}:default:[a]*-list", "x")
    found, cursor = store.scan("default", "[a]*-", 0, 7)
    while cursor:
        some, cursor = store.scan("default", "[a]*-", cursor, 7)
        found += some
    assert sorted(set(found)) == sorted(names)


def test_tenants_have_sessions_of_their_own(store: Store, every_redis: RedisProcess, namespace: str) -> None:
    ours, theirs = "s", session_key("acme", "s")
    for key, stamp in ((ours, STAMPS[1]), (theirs, STAMPS[2])):
        put(store, key, stamp)
    assert load(store, ours, theirs) == [b"snapshot" + STAMPS[1], b"snapshot" + STAMPS[2]]
    assert every_redis.client.exists(f"{namespace}:acme:s") == 1
    assert store.scan("acme", "", 0, 100_000) == ([theirs], 0)
    assert (id_of(theirs), tenant_of(theirs), tenant_of(ours)) == ("s", "acme", "default")


def test_a_foreign_key_is_left_alone(store: Store, every_redis: RedisProcess, namespace: str) -> None:
    every_redis.client.rpush(f"{namespace}:default:a", "x")
    put(store, "b", STAMPS[1])
    verdicts = store.commit(
        [Commit("a", Operation.CHECK, STAMPS[1]), Commit("b", Operation.APPEND, STAMPS[1], STAMPS[2], 60_000)]
    )
    assert verdicts == {"a": Verdict.NOT_A_RECORD, "b": Verdict.DONE}


def test_a_redis_turned_replica_costs_only_its_own_connection(every_redis: RedisProcess, namespace: str) -> None:
    client = connect(every_redis.url, 2.0)
    store = Store(client, namespace)
    put(store, "a", STAMPS[1])
    busy = client.connection_pool.get_connection()  # another engine's, in the middle of a request
    busy.send_command("PING")  # type: ignore[no-untyped-call]
    every_redis.client.replicaof("127.0.0.1", "1")
    try:
        (problem,) = store.commit([Commit("a", Operation.APPEND, STAMPS[1], STAMPS[2], 60_000)]).values()
    finally:
        every_redis.client.replicaof("NO", "ONE")
    assert isinstance(problem, Unavailable)
    assert busy.read_response() == b"PONG"
    client.connection_pool.release(busy)
    assert store.commit([Commit("a", Operation.APPEND, STAMPS[1], STAMPS[2], 60_000)]) == {"a": Verdict.DONE}


def test_a_forgotten_script_is_sent_again(store: Store, every_redis: RedisProcess) -> None:
    put(store, "a", STAMPS[1])
    every_redis.client.script_flush()
    assert store.commit([Commit("a", Operation.CHECK, STAMPS[1])]) == {"a": Verdict.DONE}


def test_a_full_redis_is_said_and_nothing_is_written(store: Store, every_redis: RedisProcess) -> None:
    for name in "abc":
        put(store, name, STAMPS[1])
    every_redis.client.config_set("maxmemory", "1")
    try:
        verdicts = store.commit(
            [
                Commit("a", Operation.APPEND, STAMPS[1], STAMPS[2], 60_000),
                Commit("b", Operation.CHECK, STAMPS[1]),
                Commit("c", Operation.CLOSE, STAMPS[1], b"trace" + STAMPS[6], 60_000),
                Commit("d", Operation.REPLACE, b"", STAMPS[1], 60_000),
            ]
        )
        for name in "ad":
            error = verdicts.pop(name)
            assert isinstance(error, Overloaded)
            assert error.reason is Reason.STORE_FULL
        assert verdicts == {"b": Verdict.DONE, "c": Verdict.DONE}
        assert load(store, *"abcd") == [
            *[b"snapshot" + STAMPS[1]] * 2,
            b"trace" + STAMPS[6],
            None,
        ]
    finally:
        every_redis.client.config_set("maxmemory", "0")


def test_a_lost_redis_is_unavailable_until_it_is_back(own_redis: RedisProcess) -> None:
    store = Store(connect(own_redis.url, 1.0), "lost")
    put(store, "a", STAMPS[1])
    own_redis.kill()
    with pytest.raises(Unavailable):
        store.load(["a"])
    with pytest.raises(Unavailable):
        store.commit([Commit("a", Operation.CHECK, STAMPS[1])])
    own_redis.start()
    assert load(store, "a") == [b"snapshot" + STAMPS[1]]


def test_no_command_is_repeated_by_the_library(every_redis: RedisProcess) -> None:
    connection = connect(every_redis.url, 1.0).connection_pool.make_connection()
    assert isinstance(connection, redis.connection.AbstractConnection)
    assert connection.retry.get_retries() == 0


def test_a_redis_that_became_a_replica_is_left(own_redis: RedisProcess) -> None:
    store = Store(connect(own_redis.url, 1.0), "replica")
    put(store, "a", STAMPS[1])
    append = Commit("a", Operation.APPEND, STAMPS[1], b"entry" + STAMPS[2], 60_000)
    own_redis.client.replicaof("127.0.0.1", "1")
    error = store.commit([append])["a"]
    assert isinstance(error, Unavailable)
    assert error.reason is Reason.STORE_UNREACHABLE
    assert not [each for each in own_redis.client.client_list() if each["name"] == "statecast"]
    own_redis.client.replicaof("no", "one")
    assert store.commit([append]) == {"a": Verdict.DONE}


@pytest.fixture
def limited(own_redis: RedisProcess) -> redis.Redis:
    """A connection of a user whose rights a test may revoke."""
    own_redis.set_user("limited", "on", "nopass", "~*", "+@all")
    return connect(f"unix://limited:x@{own_redis.socket}", 1.0)


@pytest.mark.parametrize("right", ["-evalsha", "-append", "-getrange", "-pttl", "resetkeys", "-get"])
def test_a_right_that_is_taken_away_is_a_refusal_not_an_outage(
    own_redis: RedisProcess, limited: redis.Redis, right: str
) -> None:
    store = Store(limited, "limited")
    put(store, "a", STAMPS[1])
    append = Commit("a", Operation.APPEND, STAMPS[1], b"entry" + STAMPS[2], 60_000)
    own_redis.set_user("limited", right)
    try:
        store.load(["a"])
        error: object = store.commit([append])["a"]
    except StoreRefuses as refused:
        error = refused
    assert isinstance(error, StoreRefuses)
    assert error.reason is Reason.STORE_REFUSES
    assert "Send the same request again" not in error.message
    own_redis.set_user("limited", "+@all", "~*")
    assert load(store, "a") == [b"snapshot" + STAMPS[1]]
    assert store.commit([append]) == {"a": Verdict.DONE}


def test_a_password_that_is_changed_is_an_outage(own_redis: RedisProcess, limited: redis.Redis) -> None:
    """The old password may be restored, or the server restarted with the new one."""
    store = Store(limited, "limited")
    put(store, "a", STAMPS[1])
    own_redis.set_user("limited", "resetpass", ">new")
    own_redis.client.client_kill_filter(_type="normal", skipme=True)
    append = Commit("a", Operation.APPEND, STAMPS[1], b"entry" + STAMPS[2], 60_000)
    with pytest.raises(Unavailable, match="nothing was appended") as caught:
        store.commit([append])
    assert caught.value.reason is Reason.STORE_UNREACHABLE
