"""Loads and commits many session records in Redis, in one round trip each."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, NamedTuple

import redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterCrossSlotError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
)

from statecast.service.errors import Overloaded, ServiceError, StartupError, StoreRefuses, Unavailable
from statecast.service.session_key import DEFAULT_TENANT, SEPARATOR, id_of, session_key, tenant_of
from statecast.service.store.cluster import Cluster
from statecast.service.store.cluster_scripts import ClusterScripts
from statecast.service.store.scripts import Argument, NotCarriedOut, Script, ScriptConnection, Scripts
from statecast.service.store.sentinels import PrimaryUnknown
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

LOAD_SCRIPT, COMMIT_SCRIPT = Script.read("load.lua", replies=2, repeats=True), Script.read("commit.lua", replies=1)
HEAD_SCRIPT = Script.read("head.lua", replies=2, repeats=True)
NOT_RENEWED = 2
REFUSALS = (NoPermissionError, AskError, ClusterCrossSlotError)
"""Errors that last until Redis' configuration changes: no permission, or a node of a cluster."""
_NOT_CARRIED_OUT = (*REFUSALS, AuthenticationError, MasterDownError, NotCarriedOut, PrimaryUnknown, ReadOnlyError)
# Errors of Redis 6 and 7 when a script runs a command that its user may not.
_FORBIDDEN_IN_SCRIPT = ("can't run this command", "ACL failure in script", "NOPERM")


class Operation(StrEnum):
    """Operations of a commit on a record whose stamp is the expected one, as the script names them."""

    CHECK = "check"
    APPEND = "append"
    REPLACE = "replace"
    CLOSE = "close"


class Verdict(Enum):
    """The result of one session's commit."""

    DONE = 1
    CONFLICT = 0
    NOT_A_RECORD = -1


@dataclass(slots=True)
class Commit:
    """One session's part of a batch's commit.

    An empty `expected` stamp means that no record may exist. Redis keeps the record for `lifetime_ms`. The commit fails
    if the session has expired: its key has no longer than `tombstone_ms` to live (0: it cannot expire).
    """

    key: str
    operation: Operation
    expected: bytes
    payload: bytes = b""
    lifetime_ms: int = 0
    tombstone_ms: int = 0


class Stored(NamedTuple):
    """A key's value, and its remaining lifetime; -1 means no limit."""

    data: bytes
    remaining_ms: int


class Store:
    """The records of all sessions. Not thread-safe."""

    def __init__(self, client: redis.Redis | Cluster, namespace: str) -> None:
        """Use keys of Redis that begin with `namespace`, followed by the tenant and the session's id.

        Raises:
            StartupError: if the namespace contains a colon, so that two sessions could share a key, or if it would put
                all sessions on one node of a cluster.
        """
        if ":" in namespace:
            raise StartupError(f"namespace {namespace!r} must not contain a colon; choose another")
        if isinstance(client, Cluster) and "{" in namespace:
            raise StartupError(
                f"namespace {namespace!r} must not contain a brace: in a cluster, all sessions could be on one node; "
                "choose another"
            )
        self._redis = client
        self._lost = False
        self._on_refusal: Callable[[], None] = lambda: None
        self._namespace = namespace
        self._scripts: Scripts = ClusterScripts(client) if isinstance(client, Cluster) else ScriptConnection(client)

    def tell_of_refusals(self, on_refusal: Callable[[], None]) -> None:
        """Call `on_refusal`, from any thread, when Redis refuses what the server needs."""
        self._on_refusal = on_refusal

    def load(self, session_keys: Sequence[str]) -> list[Stored | None]:
        """Return each session's record, or None if it has none.

        Raises:
            Unavailable: if Redis, or one of its nodes that is needed, does not answer.
            StoreRefuses: if Redis refuses.
        """
        return _whole(self.load_each(session_keys))

    def load_each(self, session_keys: Sequence[str]) -> list[Stored | ServiceError | None]:
        """Return each session's record, None if it has none, or the error of its node of a cluster.

        Raises:
            Unavailable: if Redis does not answer.
            StoreRefuses: if Redis refuses.
        """
        return self._load(session_keys, LOAD_SCRIPT)

    def load_beginnings(self, session_keys: Sequence[str]) -> list[Stored | None]:
        """Return the first bytes of each session's record, with the names of its model, or None if it has none.

        Raises:
            Unavailable: if Redis, or one of its nodes that is needed, does not answer.
            StoreRefuses: if Redis refuses.
        """
        return _whole(self._load(session_keys, HEAD_SCRIPT))

    def _load(self, session_keys: Sequence[str], script: Script) -> list[Stored | ServiceError | None]:
        if not session_keys:
            return []
        try:
            replies: list[Any] = self._scripts.call(script, self._keys(session_keys))
        except redis.RedisError as error:
            self._note(error)
            raise _not_asked(error) from error
        self._note(None)
        return [
            None if data is None else Stored(data, left) if isinstance(data, bytes) else self._failed(data)
            for data, left in zip(replies[::2], replies[1::2], strict=True)
        ]

    def commit(self, commits: Sequence[Commit]) -> dict[str, Verdict | ServiceError]:
        """Carry out all commits whose stamps still hold, atomically; return each session's verdict.

        If Redis refuses a session's write (out of memory, for example), its verdict is the error, and it is unchanged.

        Raises:
            Unavailable: if Redis does not answer; the commits may or may not have been written.
            StoreRefuses: if Redis refuses; nothing was written.
        """
        if not commits:
            return {}
        if Operation.CLOSE in [commit.operation for commit in commits]:
            # Deletions last: a full Redis refuses only commands before a script's first successful write.
            commits = sorted(commits, key=_is_deletion)
        arguments: list[Argument] = []
        for commit in commits:
            arguments += (
                commit.operation, commit.expected, commit.payload, commit.lifetime_ms, commit.tombstone_ms
            )  # fmt: skip
        keys = self._keys(commit.key for commit in commits)
        try:
            replies: list[Any] = self._scripts.call(COMMIT_SCRIPT, keys, arguments)
        except redis.RedisError as error:
            self._note(error)
            raise _of_a_commit(error) from error
        self._note(None)
        verdicts: dict[str, Verdict | ServiceError] = dict.fromkeys([commit.key for commit in commits], Verdict.DONE)
        if replies != [1] * len(commits):
            for commit, reply in zip(commits, replies, strict=True):
                verdicts[commit.key] = _verdict(reply)
            self._look_at(replies, verdicts)
        return verdicts

    def _failed(self, error: redis.RedisError) -> ServiceError:
        """Return the error of a session that could not be read."""
        failure = _not_asked(error)
        if isinstance(failure, StoreRefuses):
            self._on_refusal()
        return failure

    def _look_at(self, replies: Sequence[Any], verdicts: Mapping[str, Verdict | ServiceError]) -> None:
        """Do what the errors of single sessions ask for."""
        if any(isinstance(reply, bytes) and b"READONLY" in reply for reply in replies):
            # After a failover the old primary still answers here; a new connection resolves the address again.
            self._scripts.close()
        if any(isinstance(verdict, StoreRefuses) for verdict in verdicts.values()):
            self._on_refusal()

    def scan(self, tenant: str | None, prefix: str, cursor: int, count: int) -> tuple[list[str], int]:
        """Return about `count` keys of a tenant's sessions whose ids begin with `prefix`, and the next cursor.

        The cursor is 0 after the last session. In a cluster, it leads from one primary to the next. Without a tenant,
        the sessions are those of all tenants.

        Raises:
            Unavailable: if Redis does not answer.
        """
        start = f"{self._namespace}:" if tenant is None else f"{self._namespace}:{tenant}:"
        pattern = re.sub(r"([\\*?\[\]^-])", r"\\\1", start + prefix) + "*"
        try:
            after, keys = self._scripts.scan(cursor, pattern, count)
        except redis.RedisError as error:
            self._note(error)
            raise _not_asked(error) from error
        self._note(None)
        names = dict.fromkeys(key.decode(errors="replace") for key in keys)  # a page may name a key twice
        pairs = (name.removeprefix(f"{self._namespace}:").partition(":") for name in names)
        return [session_key(owner, name) for owner, _, name in pairs if owner], after

    def close(self) -> None:
        """Close the connections."""
        self._scripts.close()
        self._redis.close()

    def _note(self, error: redis.RedisError | None) -> None:
        """Log when Redis is lost and when it is back, not every error between."""
        if error is not None and _is_refusal(error):
            self._on_refusal()
        if error and not self._lost:
            log.error("Redis cannot be used: %s", error)
        elif self._lost and not error:
            log.info("Redis is back")
        self._lost = error is not None

    def _keys(self, session_keys: Iterable[str]) -> list[str]:
        usual = f"{self._namespace}:{DEFAULT_TENANT}:"
        return [
            usual + key if SEPARATOR not in key else f"{self._namespace}:{tenant_of(key)}:{id_of(key)}"
            for key in session_keys
        ]


def _whole(loaded: Sequence[Stored | ServiceError | None]) -> list[Stored | None]:
    """Return what was loaded, unless a part of it was not."""
    found: list[Stored | None] = []
    for stored in loaded:
        if isinstance(stored, ServiceError):
            raise stored
        found.append(stored)
    return found


def _is_deletion(commit: Commit) -> bool:
    return commit.operation is Operation.CLOSE


def _verdict(reply: int | bytes | redis.RedisError) -> Verdict | ServiceError:
    if reply == NOT_RENEWED:
        log.error("Redis refuses PEXPIRE: sessions will expire although they are in use")
        return Verdict.DONE
    if isinstance(reply, int):
        return Verdict(reply)
    if isinstance(reply, redis.RedisError):
        return _of_a_commit(reply)
    problem = reply.decode(errors="replace")
    if "OOM" in problem:
        return Overloaded(
            "Redis is out of memory; nothing was appended. The server's operator must raise maxmemory, or let sessions "
            "expire sooner.",
            Reason.STORE_FULL,
        )
    if _is_forbidden(problem):
        return _refuses(problem)
    return _unreachable(problem)


def _of_a_commit(error: redis.RedisError) -> ServiceError:
    """Return the error for a commit, which may have been written unless Redis says otherwise."""
    if isinstance(error, _NOT_CARRIED_OUT) or _is_forbidden(str(error)):
        return _not_asked(error)
    return _unavailable(str(error), "the observations may or may not have been appended")


def _not_asked(error: redis.RedisError) -> ServiceError:
    """Return the error for a command that Redis has not carried out."""
    return _refuses(str(error)) if _is_refusal(error) else _unreachable(str(error))


def _is_refusal(error: redis.RedisError) -> bool:
    return isinstance(error, REFUSALS) or _is_forbidden(str(error))


def _is_forbidden(error: str) -> bool:
    return any(sign in error for sign in _FORBIDDEN_IN_SCRIPT)


def _refuses(error: str) -> StoreRefuses:
    return StoreRefuses(
        f"Redis refuses what the server needs ({error}); nothing was appended. The server's operator must fix that: "
        "docs/operations.md lists the permissions that the server needs.",
        Reason.STORE_REFUSES,
    )


def _unavailable(error: str, consequence: str, reason: Reason = Reason.STORE_UNAVAILABLE) -> Unavailable:
    return Unavailable(
        f"Redis cannot be used now ({error}); {consequence}. Send the same request again.",
        reason,
    )


def _unreachable(error: str) -> Unavailable:
    """Return the error for a command that has written nothing."""
    return _unavailable(error, "nothing was appended", Reason.STORE_UNREACHABLE)
