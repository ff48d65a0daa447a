"""Checks that Redis does everything that the server needs, by trying each command once."""

import os
from collections.abc import Callable
from typing import cast

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError, ResponseError

from statecast.service.errors import ServiceError, StartupError
from statecast.service.session_key import session_key
from statecast.service.store.connection import redact, why_unusable
from statecast.service.store.redis_store import Commit, Operation, Store, Verdict

COMMANDS = (
    "ping", "info", "client|setname", "scan", "script|load", "evalsha", "get", "getrange", "pttl", "set", "append",
    "pexpire", "del",
)  # fmt: skip
"""Commands that the server's Redis user must be allowed to run."""
PROBE_MS = 10_000
_EVICTING = ("allkeys", "volatile")


def acl_rule(namespace: str) -> str:
    """Return the ACL rule that allows exactly what the server needs."""
    return f"~{namespace}:* " + " ".join(f"+{command}" for command in COMMANDS)


def require(client: redis.Redis, url: str, namespace: str, *, allow_volatile: bool) -> None:
    """Check that Redis answers, does what the server needs, and persists sessions.

    Raises:
        StartupError: if it does not; `allow_volatile` permits settings that lose sessions.
    """
    try:
        check_usable(client, url, namespace)
        if not allow_volatile and (problem := volatility(client)):
            raise StartupError(f"Redis at {redact(url)} {problem}, or pass --allow-volatile-redis to run anyway.")
    except redis.RedisError as error:
        raise StartupError(why_unusable(url, error)) from error


def check_usable(client: redis.Redis, url: str, namespace: str) -> None:
    """Try once everything that the server needs, on a key that no listing shows.

    Raises:
        StartupError: if Redis refuses something because of its configuration.
        redis.RedisError: if it does not answer, or cannot write now.
    """
    _check_kind(client, url)
    _check_permissions(client, url, namespace)
    _check_scripts(client, url, namespace)


def volatility(client: redis.Redis) -> str:
    """Return which setting makes Redis lose sessions, and how to fix it; empty if none does.

    Raises:
        redis.RedisError: if Redis does not answer.
    """
    policy = str(_info(client, "memory").get("maxmemory_policy", "noeviction"))
    if policy.startswith(_EVICTING):
        return (
            f"evicts keys when it is full (maxmemory-policy {policy}), so sessions would be lost. Set maxmemory-policy "
            "noeviction"
        )
    if not int(str(_info(client, "persistence").get("aof_enabled", 0))):
        return (
            "keeps no append-only file, so acknowledged observations would be lost when it restarts. Set appendonly yes"
        )
    return ""


def _info(client: redis.Redis, section: str) -> dict[str, object]:
    return cast("dict[str, object]", client.info(section))


def _check_kind(client: redis.Redis, url: str) -> None:
    place = redact(url)
    try:
        if _info(client, "cluster").get("cluster_enabled"):
            raise StartupError(
                f"Redis at {place} is a cluster node, which holds only some of the sessions; use a Redis that is not "
                "part of a cluster"
            )
        if _info(client, "replication").get("role") in ("slave", "replica"):
            raise StartupError(f"Redis at {place} is a read-only replica; use its primary")
    except NoPermissionError:
        return  # _check_permissions reports all missing permissions


def _check_permissions(client: redis.Redis, url: str, namespace: str) -> None:
    """Run each command once, on a key that no listing shows and that expires."""
    key = f"{namespace}::probe:{os.urandom(8).hex()}"
    runs: dict[str, Callable[[], object]] = {
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
    missing, has_keys = [], True
    for command, run in runs.items():
        try:
            run()
        except NoPermissionError as error:
            if "key" in str(error) and "command" not in str(error):
                has_keys = False
            else:
                missing.append(command)
        except (AuthenticationError, ReadOnlyError):
            raise
        except ResponseError:  # such as an unknown script
            continue
    if missing or not has_keys:
        lacking = [f"run {', '.join(missing).upper()}"] if missing else []
        lacking += [] if has_keys else [f"access the keys {namespace}:*"]
        raise StartupError(
            f"Redis at {redact(url)} does not let this user {' or '.join(lacking)}; allow that with: ACL SETUSER ... "
            f"{acl_rule(namespace)}"
        )


def _check_scripts(client: redis.Redis, url: str, namespace: str) -> None:
    """Commit, load and delete a record, as the engine does."""
    store = Store(client, namespace)
    name = f"probe:{os.urandom(8).hex()}"
    key = session_key("", name)  # no tenant's name is empty
    stamp = os.urandom(16)
    try:
        done = store.commit([Commit(key, Operation.REPLACE, b"", stamp, PROBE_MS)])[key]
        loaded = store.load([key])[0]
        client.delete(f"{namespace}::{name}")
    except ServiceError as error:
        raise StartupError(f"Redis at {redact(url)} cannot keep sessions: {error}") from error
    if isinstance(done, ServiceError):
        raise StartupError(f"Redis at {redact(url)} cannot keep sessions: {done}")
    if done is not Verdict.DONE or loaded is None or loaded.data != stamp:
        raise StartupError(f"Redis at {redact(url)} does not return what was stored; check that it is a Redis")
