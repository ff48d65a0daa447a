"""Sessions in a cluster: each is found on its node, wherever that is, and a commit runs once."""

import re
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from support import await_true, short_folder
from support.certificates import Authority
from support.redis_cluster import Node, RedisCluster
from support.redis_process import binary_of, redis_binaries

from statecast.service.cli.main import main
from statecast.service.errors import StartupError, Unavailable
from statecast.service.store.cluster import Cluster, slot_of
from statecast.service.store.connection import TlsFiles, open_redis
from statecast.service.store.redis_store import Commit, Operation, Store, Verdict
from statecast.service.store.requirements import acl_rule, require
from statecast.v1.reasons import Reason

STAMPS = [bytes([number]) * 16 for number in range(8)]
NAMES = [f"session {number}" for number in range(300)]
TIMEOUT_SECONDS = 0.5


@pytest.fixture(scope="module", params=list(redis_binaries().values()), ids=list(redis_binaries()))
def nodes(request: pytest.FixtureRequest) -> Iterator[RedisCluster]:
    """Run a cluster of every available kind, one after the other."""
    with short_folder() as folder:
        cluster = RedisCluster(request.param, folder)
        yield cluster
        cluster.stop()


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def cluster(nodes: RedisCluster) -> Cluster:
    await_true(nodes.is_well)
    cluster = open_redis(nodes.url, TIMEOUT_SECONDS)
    assert isinstance(cluster, Cluster)
    return cluster


@pytest.fixture
def store(cluster: Cluster, namespace: str) -> Iterator[Store]:
    store = Store(cluster, namespace)
    yield store
    store.close()


def create(store: Store, *names: str) -> None:
    commits = [Commit(name, Operation.REPLACE, b"", name.encode() + STAMPS[1], 60_000) for name in names]
    assert store.commit(commits) == dict.fromkeys(names, Verdict.DONE)


def appending(names: list[str], expected: bytes = STAMPS[1], new: bytes = STAMPS[2]) -> list[Commit]:
    return [Commit(name, Operation.APPEND, expected, b"entry" + new, 60_000) for name in names]


def contents(store: Store, *names: str) -> list[bytes | None]:
    return [stored and stored.data for stored in store.load(names)]


def appended(name: str) -> bytes:
    return name.encode() + STAMPS[1] + b"entry" + STAMPS[2]


def slot_in(namespace: str, name: str) -> int:
    return slot_of(f"{namespace}:default:{name}")


def on_node(nodes: RedisCluster, namespace: str, node: Node) -> list[str]:
    """Return the sessions that a node keeps."""
    owned = {slot: nodes.owner(slot).port for slot in {slot_in(namespace, name) for name in NAMES}}
    return [name for name in NAMES if owned[slot_in(namespace, name)] == node.port]


def kept(node: Node, namespace: str, slot: int) -> list[str]:
    """Return the sessions of a slot that a node keeps."""
    start = f"{namespace}:default:"
    keys = [key.decode() for key in node.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)]
    return [key.removeprefix(start) for key in keys if key.startswith(start)]


def calls(node: Node) -> int:
    """Return the number of scripts that a node has run."""
    found: int = node.client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    return found


def test_each_session_of_a_batch_gets_its_own_verdict(store: Store) -> None:
    create(store, *NAMES)
    moved_on = NAMES[::7]
    assert set(store.commit(appending(moved_on)).values()) == {Verdict.DONE}
    verdicts = store.commit(appending(NAMES))
    assert verdicts == {name: Verdict.CONFLICT if name in moved_on else Verdict.DONE for name in NAMES}
    assert contents(store, "nobody", *NAMES) == [None, *map(appended, NAMES)]


@settings(max_examples=50)
@given(st.text(st.sampled_from("{}ab\u00e9"), max_size=12))
def test_the_slot_of_a_key_is_the_one_that_redis_says(nodes: RedisCluster, key: str) -> None:
    assert slot_of(key) == nodes.nodes[0].client.execute_command("CLUSTER", "KEYSLOT", key)


def test_a_slot_that_has_moved_is_followed(nodes: RedisCluster, store: Store, namespace: str) -> None:
    create(store, *NAMES)
    slot = slot_in(namespace, NAMES[0])
    source = nodes.owner(slot)
    nodes.move([slot], source, next(node for node in nodes.primaries if node is not source))
    before = [calls(node) for node in nodes.primaries]
    assert store.commit(appending(NAMES)) == dict.fromkeys(NAMES, Verdict.DONE)
    assert sum(calls(node) for node in nodes.primaries) - sum(before) == len(NAMES)  # a redirection is no call
    assert contents(store, *NAMES) == list(map(appended, NAMES))


def test_a_slot_on_its_way_is_served_by_both_nodes(nodes: RedisCluster, store: Store, namespace: str) -> None:
    there, new = "{tag} there", "{tag} new"
    create(store, there)
    slot = slot_in(namespace, there)
    source = nodes.owner(slot)
    target = next(node for node in nodes.primaries if node is not source)
    nodes.begin_to_move(slot, source, target)
    try:
        for _ in range(2):  # the second time, nothing of the first may have changed where calls go
            assert contents(store, there, new, "elsewhere") == [there.encode() + STAMPS[1], None, None]
        create(store, new)
        assert store.commit(appending([new, there])) == {new: Verdict.DONE, there: Verdict.DONE}
        assert kept(source, namespace, slot) == [there]
        assert kept(target, namespace, slot) == [new]
    finally:
        nodes.end_to_move(slot, source, target)
    assert contents(store, there, new) == [appended(there), appended(new)]


def test_scripts_that_one_node_has_forgotten_are_sent_again(nodes: RedisCluster, store: Store) -> None:
    create(store, *NAMES)
    nodes.primaries[1].client.script_flush()
    assert store.commit(appending(NAMES)) == dict.fromkeys(NAMES, Verdict.DONE)
    assert contents(store, *NAMES) == list(map(appended, NAMES))


def test_a_commit_whose_answer_is_lost_is_not_sent_again(
    nodes: RedisCluster, cluster: Cluster, store: Store, namespace: str
) -> None:
    create(store, *NAMES)
    stopped = nodes.primaries[0]
    lost = on_node(nodes, namespace, stopped)
    before = calls(stopped)
    stopped.signal(signal.SIGSTOP)
    try:
        verdicts = store.commit(appending(NAMES))
        started = time.monotonic()
        refused = store.commit(appending(lost, STAMPS[2], STAMPS[3]))
        assert time.monotonic() - started < TIMEOUT_SECONDS / 2  # nobody waits for that node again
    finally:
        stopped.signal(signal.SIGCONT)
    assert 50 < len(lost) < 200
    for name in NAMES:
        verdict = verdicts[name]
        if name in lost:
            assert isinstance(verdict, Unavailable)
            assert verdict.reason is Reason.STORE_UNAVAILABLE
            assert "may or may not" in verdict.message
        else:
            assert verdict is Verdict.DONE
    assert {getattr(each, "reason", None) for each in refused.values()} == {Reason.STORE_UNREACHABLE}
    await_true(lambda: calls(stopped) > before)  # what the node had in its socket runs now
    await_true(lambda: not cluster.probe())  # from now on, batches use it again
    time.sleep(TIMEOUT_SECONDS)
    run = calls(stopped) - before
    assert run <= len(lost)
    found = dict(zip(NAMES, contents(store, *NAMES), strict=True))
    assert sum(found[name] == appended(name) for name in lost) == run
    assert sum(found[name] == name.encode() + STAMPS[1] for name in lost) == len(lost) - run


def test_a_replica_takes_over_from_a_primary_that_was_killed(nodes: RedisCluster, store: Store, namespace: str) -> None:
    create(store, *NAMES)
    killed = nodes.primaries[1]
    lost = on_node(nodes, namespace, killed)
    killed.kill()
    try:
        verdicts = store.commit(appending(NAMES))
        assert [name for name in NAMES if verdicts[name] is not Verdict.DONE] == lost
        assert {getattr(verdicts[name], "reason", None) for name in lost} == {Reason.STORE_UNREACHABLE}
        await_true(lambda: set(store.commit(appending(lost)).values()) <= {Verdict.DONE, Verdict.CONFLICT})
        assert contents(store, *NAMES) == list(map(appended, NAMES))
    finally:
        killed.start()
    await_true(nodes.is_well)


def test_every_session_is_listed_from_page_to_page(store: Store) -> None:
    create(store, *NAMES, "other")
    found, cursor = store.scan("default", "session", 0, 40)
    pages = 1
    while cursor:
        some, cursor = store.scan("default", "session", cursor, 40)
        found += some
        pages += 1
    assert sorted(set(found)) == sorted(NAMES)
    assert pages > 3


def test_a_slot_that_nobody_serves_is_told_and_the_others_go_on(
    nodes: RedisCluster, store: Store, namespace: str
) -> None:
    create(store, *NAMES)
    slot = slot_in(namespace, NAMES[0])
    owner = nodes.owner(slot)
    for node in nodes.nodes:
        node.client.config_set("cluster-require-full-coverage", "no")
    owner.client.execute_command("CLUSTER", "DELSLOTS", slot)
    try:
        verdicts = store.commit(appending(NAMES))
    finally:
        owner.client.execute_command("CLUSTER", "ADDSLOTS", slot)
        for node in nodes.nodes:
            node.client.config_set("cluster-require-full-coverage", "yes")
    failed = {name: verdict for name, verdict in verdicts.items() if verdict is not Verdict.DONE}
    assert set(failed) == {name for name in NAMES if slot_in(namespace, name) == slot}
    for error in failed.values():
        assert isinstance(error, Unavailable)
        assert error.reason is Reason.STORE_UNREACHABLE


def test_a_server_starts_on_the_cluster_with_the_documented_rights(nodes: RedisCluster, cluster: Cluster) -> None:
    require(cluster, nodes.url, "statecast", allow_volatile=False)
    rule = acl_rule("statecast", in_cluster=True).split()
    for node in nodes.nodes:
        node.client.execute_command("ACL", "SETUSER", "server", "on", ">secret", "resetkeys", "-@all", *rule)
    url = nodes.url.replace("://", "://server:secret@")
    require(open_redis(url, 1.0), url, "statecast", allow_volatile=False)
    lacking = nodes.primaries[2]
    lacking.client.execute_command("ACL", "SETUSER", "server", "-asking", "-append")
    with pytest.raises(StartupError) as caught:
        require(open_redis(url, 1.0), url, "statecast", allow_volatile=False)
    assert f"has a node {lacking.address} that does not let this user run APPEND, ASKING;" in str(caught.value)
    assert "secret" not in str(caught.value)
    done = CliRunner().invoke(main, ["redis", "check", url])
    assert done.exit_code == 1
    assert f"rights  MISSING  has a node {lacking.address}" in re.sub(" {2,}", "  ", done.stdout)


def test_what_one_node_of_the_cluster_forgets_is_told(nodes: RedisCluster, cluster: Cluster) -> None:
    forgetful = nodes.primaries[1]
    forgetful.client.config_set("appendonly", "no")
    try:
        with pytest.raises(StartupError, match=f"has a node {forgetful.address} that keeps no append-only file"):
            require(cluster, nodes.url, "statecast", allow_volatile=False)
        require(cluster, nodes.url, "statecast", allow_volatile=True)
        done = CliRunner().invoke(main, ["redis", "check", nodes.url])
        assert f"{forgetful.address}: keeps no append-only file" in done.stdout
    finally:
        forgetful.client.config_set("appendonly", "yes")
    done = CliRunner().invoke(main, ["redis", "check", nodes.url])
    assert done.exit_code == 0, done.output


def test_a_namespace_that_would_put_all_sessions_on_one_node_is_refused(cluster: Cluster) -> None:
    with pytest.raises(StartupError, match="must not contain a brace"):
        Store(cluster, "{all}")


def test_a_cluster_with_tls_wants_its_authority_and_the_client_s_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.server(), authority.client()
    options = (
        "--tls-ca-cert-file", authority.ca, "--tls-cert-file", server.cert, "--tls-key-file", server.key,
        "--tls-client-cert-file", client.cert, "--tls-client-key-file", client.key, "--tls-cluster", "yes",
    )  # fmt: skip
    access = {"ssl": True, "ssl_ca_certs": authority.ca, "ssl_certfile": client.cert, "ssl_keyfile": client.key}
    with short_folder() as folder:
        nodes = RedisCluster(
            binary_of("redis"), folder, *map(str, options), nodes=3,
            **{name: value if value is True else str(value) for name, value in access.items()},
        )  # fmt: skip
        try:
            cluster = open_redis(nodes.url, 2.0, files=TlsFiles(authority.ca, client.cert, client.key))
            require(cluster, nodes.url, "statecast", allow_volatile=False)
            in_url = f"{nodes.url}/?ssl_ca_certs={authority.ca}&ssl_certfile={client.cert}&ssl_keyfile={client.key}"
            require(open_redis(in_url, 2.0), in_url, "statecast", allow_volatile=False)
            with pytest.raises(StartupError, match=r"not trusted here .* --redis-ca"):
                require(open_redis(nodes.url, 2.0), nodes.url, "statecast", allow_volatile=False)
            opened = open_redis(nodes.url, 2.0, files=TlsFiles(authority.ca))
            with pytest.raises(StartupError, match="--redis-cert and --redis-key"):
                require(opened, nodes.url, "statecast", allow_volatile=False)
        finally:
            nodes.stop()
