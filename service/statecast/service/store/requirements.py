"""Checks that Redis does everything that the server needs, by trying each command once."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError, ResponseError

from statecast.service.errors import ServiceError, StartupError, Unavailable
from statecast.service.session_key import session_key
from statecast.service.store.cluster import Cluster, slot_of
from statecast.service.store.connection import why_unusable
from statecast.service.store.nodes import Client, instead, of_nodes
from statecast.service.store.redis_store import Commit, Operation, Store, Verdict
from statecast.service.store.redis_url import Address, redact

COMMANDS = (
    "ping", "info", "client|setname", "scan", "script|load", "evalsha", "get", "getrange", "pttl", "set", "append",
    "pexpire", "del",
)  # fmt: skip
"""Commands that the server's Redis user must be allowed to run."""
CLUSTER_COMMANDS = ("cluster|slots", "asking")
"""Further ones in a cluster."""
PROBE_MS = 10_000
_REPLICA = ("slave", "replica")
_EVICTING = ("allkeys", "volatile")


def acl_rule(namespace: str, *, in_cluster: bool = False) -> str:
    """Return the ACL rule that allows exactly what the server needs."""
    commands = COMMANDS + (CLUSTER_COMMANDS if in_cluster else ())
    return f"~{namespace}:* " + " ".join(f"+{command}" for command in commands)


def require(client: Client, url: str, namespace: str, *, allow_volatile: bool) -> None:
    """Check that Redis answers, does what the server needs, and persists sessions.

    Raises:
        StartupError: if it does not; the message has all problems. `allow_volatile` permits settings that lose
            sessions.
    """
    try:
        looks = usability(client, namespace)
        found = _sentences(looks, url)
        if "rights" not in looks:  # it is no Redis for sessions at all
            raise StartupError(". ".join(found))
        # Without the right to look at settings, that is what `found` says.
        with suppress(NoPermissionError):
            if not allow_volatile and (problem := volatility(client)):
                found.append(f"Redis at {redact(url)} {problem}, or pass --allow-volatile-redis to run anyway.")
    except redis.RedisError as error:
        raise StartupError(why_unusable(url, error)) from error
    if found:
        raise StartupError(". ".join(found))


def check_usable(client: Client, url: str, namespace: str) -> None:
    """Try once everything that the server needs, on a key that no listing shows.

    Raises:
        StartupError: if Redis refuses something because of its configuration.
        redis.RedisError: if it does not answer, or cannot write now.
    """
    if found := _sentences(usability(client, namespace), url):
        raise StartupError(". ".join(found))


def usability(client: Client, namespace: str) -> dict[str, str]:
    """Try once everything that the server needs, on a key that no listing shows.

    Returns:
        For each check, "kind", "rights" and "scripts", why Redis cannot be used and how to fix it, with Redis as the
        subject; empty if it can. Scripts are not tried, and missing, unless the other checks succeed. Nor are rights on
        what could keep no sessions at all, such as a Sentinel.

    Raises:
        StartupError: if the namespace is invalid.
        redis.RedisError: if Redis does not answer, or cannot write now.
    """
    if isinstance(client, Cluster):
        return _cluster_usability(client, namespace)
    if sentinel := _sentinel_problem(client):
        return {"kind": sentinel}
    kind = _kind_problem(client)
    key = f"{namespace}::{_name()}"
    found = {"kind": kind, "rights": _rights_problem(client, namespace, key, may_be_read_only=bool(kind))}
    if not any(found.values()):
        found["scripts"] = _scripts_problem(client, namespace)
    return found


def volatility(client: Client) -> str:
    """Return which settings make Redis lose sessions, and how to fix that; empty if none does.

    Raises:
        redis.RedisError: if Redis does not answer.
    """
    if isinstance(client, Cluster):
        return of_nodes(client, lambda node, _: volatility(node))
    return ". It also ".join(filter(None, (eviction_problem(client), append_only_problem(client))))


def eviction_problem(client: redis.Redis) -> str:
    """Return why Redis may evict sessions, and how to fix that; empty if it does not.

    Raises:
        redis.RedisError: if Redis does not answer.
    """
    policy = str(_info(client, "memory").get("maxmemory_policy", "noeviction"))
    if not policy.startswith(_EVICTING):
        return ""
    return (
        f"evicts keys when it is full (maxmemory-policy {policy}), so sessions would be lost. Set maxmemory-policy "
        "noeviction"
    )


def append_only_problem(client: redis.Redis) -> str:
    """Return why Redis loses sessions when it restarts, and how to fix that; empty if it does not.

    Raises:
        redis.RedisError: if Redis does not answer.
    """
    if int(str(_info(client, "persistence").get("aof_enabled", 0))):
        return ""
    return "keeps no append-only file, so acknowledged observations would be lost when it restarts. Set appendonly yes"


def _sentences(found: dict[str, str], url: str) -> list[str]:
    return [f"Redis at {redact(url)} {problem}" for problem in found.values() if problem]


def _info(client: redis.Redis, section: str) -> dict[str, object]:
    return cast("dict[str, object]", client.info(section))


def _cluster_usability(cluster: Cluster, namespace: str) -> dict[str, str]:
    try:
        cluster.refresh()
    except NoPermissionError:
        rule = acl_rule(namespace, in_cluster=True)
        return {
            "kind": "",
            "rights": f"does not let this user run CLUSTER|SLOTS; allow that with: ACL SETUSER ... {rule}",
        }
    except ResponseError as error:
        return {"kind": f"is not part of a cluster ({error}); let redis-url begin with redis:// or rediss://"}
    if not cluster.primaries():
        return {
            "kind": "is a node of a cluster in which none serves any slots; make it one with redis-cli --cluster create"
        }

    def rights(client: redis.Redis, address: Address) -> str:
        key = f"{namespace}::{_name_on(cluster, address, namespace)}"
        return _rights_problem(client, namespace, key, may_be_read_only=False, in_cluster=True)

    found = {"kind": "", "rights": of_nodes(cluster, rights)}
    if not found["rights"]:
        found["scripts"] = _scripts_problem(cluster, namespace)
    return found


def _sentinel_problem(client: redis.Redis) -> str:
    with suppress(NoPermissionError):
        server = _info(client, "server")
        if "sentinel" in (server.get("redis_mode"), server.get("server_mode")):
            port = int(str(server.get("tcp_port", 0)))
            return f"is a Sentinel; set redis-url to {instead(client, 'sentinel', port, _watched(client))}"
    return ""


def _kind_problem(client: redis.Redis) -> str:
    try:
        if _info(client, "cluster").get("cluster_enabled"):
            port = int(str(_info(client, "server").get("tcp_port", 0)))
            return (
                "is a cluster node, which holds only some of the sessions; set redis-url to "
                f"{instead(client, 'cluster', port)}"
            )
        if _info(client, "replication").get("role") in _REPLICA:
            return "is a read-only replica; use its primary"
    except NoPermissionError:
        pass  # _rights_problem reports all missing permissions
    return ""


def _watched(sentinel: Any) -> str:
    """Return the name of the primary that a Sentinel watches, or a place for it if there are several."""
    try:
        names = [primary[b"name"].decode() if isinstance(primary, dict) else primary[1].decode()
                 for primary in sentinel.execute_command("SENTINEL", "MASTERS")]  # fmt: skip
    except (redis.RedisError, LookupError):
        names = []
    return names[0] if len(names) == 1 else "name-of-the-primary"


def _rights_problem(
    client: redis.Redis, namespace: str, key: str, *, may_be_read_only: bool, in_cluster: bool = False
) -> str:
    """Run each command once, on a key that no listing shows and that expires."""
    missing, has_keys = [], True
    trials = _trials(client, key) | (_cluster_trials(client) if in_cluster else {})
    for command, run in trials.items():
        try:
            run()
        except NoPermissionError as error:
            if "key" in str(error) and "command" not in str(error):
                has_keys = False
            else:
                missing.append(command)
        except AuthenticationError:
            raise
        except ReadOnlyError:
            if not may_be_read_only:
                raise
        except ResponseError:  # such as an unknown script
            continue
    if not missing and has_keys:
        return ""
    lacking = [f"run {', '.join(missing).upper()}"] if missing else []
    lacking += [] if has_keys else [f"access the keys {namespace}:*"]
    rule = acl_rule(namespace, in_cluster=in_cluster)
    return f"does not let this user {' or '.join(lacking)}; allow that with: ACL SETUSER ... {rule}"


def _trials(client: redis.Redis, key: str) -> dict[str, Callable[[], object]]:
    """Return a trial of each command that the server needs."""
    return {
        "ping": client.ping,
        "info": lambda: client.info("server"),
        "scan": lambda: client.scan(0, key, 1),
        "script|load": lambda: client.script_load("return 1"),
        "evalsha": lambda: client.evalsha("0" * 40, 1, key),
        "set": lambda: client.set(key, "probe", px=PROBE_MS),
        "get": lambda: client.get(key),
        "getrange": lambda: client.getrange(key, 0, 1),
        "append": lambda: client.append(key, "x"),
        "pttl": lambda: client.pttl(key),
        "pexpire": lambda: client.pexpire(key, PROBE_MS),
        "del": lambda: client.delete(key),
    }


def _cluster_trials(client: Any) -> dict[str, Callable[[], object]]:
    return {
        "cluster|slots": lambda: client.execute_command("CLUSTER", "SLOTS"),
        "asking": lambda: client.execute_command("ASKING"),
    }


def _scripts_problem(client: Client, namespace: str) -> str:
    """Commit, load and delete a record as the engine does; in a cluster, one on each primary."""
    store, probes = Store(client, namespace), _probes(client, namespace)
    stamps = {session_key("", name): os.urandom(16) for name in probes}  # no tenant's name is empty
    try:
        verdicts = store.commit([Commit(key, Operation.REPLACE, b"", each, PROBE_MS) for key, each in stamps.items()])
        records = store.load_each(list(stamps))
    except ServiceError as error:
        return f"cannot keep sessions: {error}"
    for name, node in probes.items():
        with suppress(redis.RedisError):  # the key expires by itself
            node.delete(f"{namespace}::{name}")
    failed = [each for each in (*verdicts.values(), *records) if isinstance(each, ServiceError)]
    if isinstance(client, Cluster):  # which is in use as long as one primary can be used
        lost = sum(isinstance(verdict, Unavailable) for verdict in verdicts.values())
        if failed and lost == len(verdicts):
            raise redis.ConnectionError("no primary takes a session at the moment; see redis-cli --cluster check")
        failed = [each for each in failed if not isinstance(each, Unavailable)]
    if failed:
        return f"cannot keep sessions: {failed[0]}"
    wrong = [
        stored is None or verdict is not Verdict.DONE or stored.data != stamp
        for verdict, stored, stamp in zip(verdicts.values(), records, stamps.values(), strict=True)
        if not isinstance(verdict, ServiceError) and not isinstance(stored, ServiceError)
    ]
    return "does not return what was stored; check that it is a Redis" if any(wrong) else ""


def _probes(client: Client, namespace: str) -> dict[str, redis.Redis]:
    """Return the name of a session for each primary that can be used, and the primary."""
    if not isinstance(client, Cluster):
        return {_name(): client}
    usable = [each for each in client.primaries() if not client.is_left_alone(each)]
    return {_name_on(client, each, namespace): client.client(each) for each in usable}


def _name() -> str:
    return f"probe:{os.urandom(8).hex()}"


def _name_on(cluster: Cluster, address: Address, namespace: str) -> str:
    """Return a name whose key lies on a node; in a cluster of ten, that takes about ten trials."""
    return next(name for name in iter(_name, "") if cluster.owner(slot_of(f"{namespace}::{name}")) == address)
