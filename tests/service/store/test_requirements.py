"""The server refuses to start on a Redis that lacks what it needs, and names what is missing."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import short_folder
from support.redis_process import RedisProcess, redis_binaries

from statecast.service.errors import StartupError
from statecast.service.store.connection import connect, open_redis
from statecast.service.store.redis_store import Store
from statecast.service.store.requirements import COMMANDS, acl_rule, require

DOCS = Path(__file__).parents[3] / "docs" / "operations.md"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def check(url: str, *, allow_volatile: bool = False, namespace: str = "statecast") -> None:
    require(open_redis(url, 1.0), url, namespace, allow_volatile=allow_volatile)


def refused(url: str, *, allow_volatile: bool = False) -> str:
    with pytest.raises(StartupError) as caught:
        check(url, allow_volatile=allow_volatile)
    return str(caught.value)


def test_any_usual_redis_will_do_and_nothing_stays_behind(every_redis: RedisProcess) -> None:
    check(every_redis.url, namespace="fresh")
    assert not list(every_redis.client.scan_iter("fresh:*"))


@pytest.mark.parametrize(("option", "value"), [("maxmemory-policy", "allkeys-lru"), ("appendonly", "no")])
def test_a_redis_that_forgets_is_refused(own_redis: RedisProcess, option: str, value: str) -> None:
    check(own_redis.url)
    own_redis.client.config_set(option, value)
    assert option in refused(own_redis.url)
    check(own_redis.url, allow_volatile=True)


def test_all_problems_are_reported_together(own_redis: RedisProcess) -> None:
    own_redis.client.config_set("maxmemory-policy", "volatile-ttl")
    own_redis.client.config_set("appendonly", "no")
    own_redis.client.replicaof("127.0.0.1", "1")
    message = refused(own_redis.url)
    parts = ("is a read-only replica; use its primary. ", "evicts keys", ". It also keeps no append-only file")
    assert all(part in message for part in parts)
    assert message.endswith("Set appendonly yes, or pass --allow-volatile-redis to run anyway.")


def test_a_redis_that_does_not_answer_is_named_without_its_password() -> None:
    message = refused("redis://user:secret@127.0.0.1:1/0")
    assert "redis://***@127.0.0.1:1/0 cannot be reached" in message
    assert "secret" not in message


@pytest.fixture
def with_rule(own_redis: RedisProcess) -> str:
    """Return the URL of a user with exactly the documented rights."""
    rule = acl_rule("statecast").split()
    own_redis.set_user("server", "on", ">secret", "resetkeys", "-@all", *rule)
    return f"unix://server:secret@{own_redis.socket}"


def test_the_rule_is_enough(with_rule: str) -> None:
    check(with_rule)
    keys, _ = Store(connect(with_rule, 1.0), "statecast").scan("default", "", 0, 10)
    assert keys == []


def test_the_rule_is_the_one_that_is_documented() -> None:
    assert acl_rule("statecast") in re.sub(r"\\\n\s+", "", DOCS.read_text())


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "client|setname"])
def test_a_command_that_is_not_allowed_is_named(own_redis: RedisProcess, with_rule: str, command: str) -> None:
    rule = [each for each in acl_rule("statecast").split() if each != f"+{command}"]
    own_redis.set_user("server", "reset", "on", ">secret", *rule)
    message = refused(with_rule)
    assert f"does not let this user run {command.upper()}" in message
    assert acl_rule("statecast") in message


def test_several_are_named_together(own_redis: RedisProcess, with_rule: str) -> None:
    own_redis.set_user("server", "-append", "-evalsha", "-script")
    assert "run SCRIPT|LOAD, EVALSHA, APPEND;" in refused(with_rule)


def test_keys_that_are_not_allowed_are_named(own_redis: RedisProcess, with_rule: str) -> None:
    own_redis.set_user("server", "resetkeys", "~other:*")
    assert "access the keys statecast:*" in refused(with_rule)


def test_a_replica_is_refused(own_redis: RedisProcess) -> None:
    own_redis.client.replicaof("127.0.0.1", "1")
    for allow_volatile in (False, True):
        assert "is a read-only replica; use its primary" in refused(own_redis.url, allow_volatile=allow_volatile)
    own_redis.client.replicaof("no", "one")
    check(own_redis.url)


@pytest.fixture
def listening() -> Iterator[tuple[RedisProcess, int]]:
    """Start a Redis on a local port, optionally as a cluster node."""
    port = free_port()
    with short_folder() as folder:
        process = RedisProcess(
            next(iter(redis_binaries().values())), folder, "--port", str(port), "--bind", "127.0.0.1"
        )
        yield process, port
        process.stop()


def test_a_node_of_a_cluster_is_refused() -> None:
    with short_folder() as folder:
        binary = next(iter(redis_binaries().values()))
        # Cluster nodes talk to each other on the port 10,000 above.
        port = next(port for port in iter(free_port, None) if port + 10_000 < 65_536)
        process = RedisProcess(binary, folder, "--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes")
        try:
            message = refused(process.url)
            assert "is a cluster node, which holds only some of the sessions" in message
            assert f"set redis-url to redis+cluster://127.0.0.1:{port}." in f"{message}."
            assert "none serves any slots" in refused(f"redis+cluster://127.0.0.1:{port}")
        finally:
            process.stop()


def test_the_wrong_kind_of_connection_is_told(listening: tuple[RedisProcess, int]) -> None:
    process, port = listening
    assert "write redis:// instead of rediss://" in refused(f"rediss://127.0.0.1:{port}")
    process.client.config_set("requirepass", "secret")
    message = refused(f"redis://127.0.0.1:{port}")
    assert "requires a password" in message
    assert "HELLO" not in message
    assert "rejects this user and password" in refused(f"redis://:wrong@127.0.0.1:{port}")
    check(f"redis://:secret@127.0.0.1:{port}")


def test_the_probe_is_outside_every_listing() -> None:
    assert re.fullmatch(r"statecast::probe:\w+", "statecast::probe:0a") is not None
    assert not "statecast::probe:0a".startswith("statecast:default:")
