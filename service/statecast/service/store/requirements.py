"""Checks that Redis does everything that the server needs, by trying each command once."""

import os
from collections.abc import Callable
from contextlib import suppress
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
        StartupError: if it does not; the message has all problems. `allow_volatile` permits settings that lose
            sessions.
    """
    try:
        found = _sentences(usability(client, namespace), url)
        # Without the right to look at settings, that is what `found` says.
        with suppress(NoPermissionError):
            if not allow_volatile and (problem := volatility(client)):
                found.append(f"Redis at {redact(url)} {problem}, or pass --allow-volatile-redis to run anyway.")
    except redis.RedisError as error:
        raise StartupError(why_unusable(url, error)) from error
    if found:
        raise StartupError(". ".join(found))


def check_usable(client: redis.Redis, url: str, namespace: str) -> None:
    """Try once everything that the server needs, on a key that no listing shows.

    Raises:
        StartupError: if Redis refuses something because of its configuration.
        redis.RedisError: if it does not answer, or cannot write now.
    """
    if found := _sentences(usability(client, namespace), url):
        raise StartupError(". ".join(found))


def usability(client: redis.Redis, namespace: str) -> dict[str, str]:
    """Try once everything that the server needs, on a key that no listing shows.

    Returns:
        For each check, "kind", "rights" and "scripts", why Redis cannot be used and how to fix it, with Redis as the
        subject; empty if it can. Scripts are not tried, and missing, unless the other checks succeed.

    Raises:
        StartupError: if the namespace is invalid.
        redis.RedisError: if Redis does not answer, or cannot write now.
    """
    kind = _kind_problem(client)
    found = {"kind": kind, "rights": _rights_problem(client, namespace, may_be_read_only=bool(kind))}
    if not any(found.values()):
        found["scripts"] = _scripts_problem(client, namespace)
    return found


def volatility(client: redis.Redis) -> str:
    """Return which settings make Redis lose sessions, and how to fix that; empty if none does.

    Raises:
        redis.RedisError: if Redis does not answer.
    """
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


def _kind_problem(client: redis.Redis) -> str:
    try:
        if _info(client, "cluster").get("cluster_enabled"):
            return "is a cluster node, which holds only some of the sessions; use a Redis that is not part of a cluster"
        if _info(client, "replication").get("role") in ("slave", "replica"):
            return "is a read-only replica; use its primary"
    except NoPermissionError:
        pass  # _rights_problem reports all missing permissions
    return ""


def _rights_problem(client: redis.Redis, namespace: str, *, may_be_read_only: bool) -> str:
    """Run each command once, on a key that no listing shows and that expires."""
    key = f"{namespace}::probe:{os.urandom(8).hex()}"
    missing, has_keys = [], True
    for command, run in _trials(client, key).items():
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
    return f"does not let this user {' or '.join(lacking)}; allow that with: ACL SETUSER ... {acl_rule(namespace)}"


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


def _scripts_problem(client: redis.Redis, namespace: str) -> str:
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
        return f"cannot keep sessions: {error}"
    if isinstance(done, ServiceError):
        return f"cannot keep sessions: {done}"
    if done is not Verdict.DONE or loaded is None or loaded.data != stamp:
        return "does not return what was stored; check that it is a Redis"
    return ""
