"""Sessions' records in Redis: load many, commit many, one round trip each."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from statecast.service.errors import Overloaded, Reason, RetryableError, StartupError, Unavailable

log = logging.getLogger(__name__)

LOAD_SCRIPT, COMMIT_SCRIPT = (
    resources.files(__package__).joinpath(name).read_text() for name in ("load.lua", "commit.lua")
)
NOT_RENEWED = 2
TENANT = "default"
RETRY_AFTER_SECONDS = 0.2
_EVICTING = ("allkeys", "volatile")


class Operation(Enum):
    """What a commit does to one record whose stamp is still the expected one."""

    CHECK = "check"
    APPEND = "append"
    REPLACE = "replace"
    CLOSE = "close"


class Verdict(Enum):
    """What became of one session's commit."""

    DONE = 1
    CONFLICT = 0
    NOT_A_RECORD = -1


@dataclass(slots=True)
class Commit:
    """One session's part of a batch's commit.

    An empty `expected` stamp means that no record may exist. Redis keeps what is written for `lifetime_ms`; the session
    must not have expired, which it has when its key has no longer than `trace_ms` to live (0: it cannot expire).
    """

    session_id: str
    operation: Operation
    expected: bytes
    payload: bytes = b""
    lifetime_ms: int = 0
    trace_ms: int = 0


class Stored(NamedTuple):
    """A key's value, and how long Redis keeps it yet; -1 is for ever."""

    data: bytes
    remaining_ms: int


def connect(url: str, timeout_seconds: float) -> redis.Redis:
    """A synchronous connection that never repeats a command by itself: a repeated commit would conflict with itself.

    Raises:
        StartupError: if the URL cannot be read.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path):
            raise ValueError(f"{parts.path[1:]!r} is not the number of a database")
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            client_name="statecast",
        )
        client.connection_pool.make_connection()  # only this looks at the URL's options
    except (ValueError, TypeError) as error:
        raise StartupError(f"redis-url {redact(url)} cannot be read: {error}") from error
    return client


class Store:
    """The records of all sessions. Not for use by two threads at once."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        """Keep all keys under `namespace`.

        Raises:
            StartupError: if the namespace holds a colon, which could make two sessions share a key.
        """
        if ":" in namespace:
            raise StartupError(f"namespace {namespace!r} must not hold a colon")
        self._redis = client
        self._lost = False
        self._prefix = f"{namespace}:{TENANT}:"
        self._load, self._commit = client.register_script(LOAD_SCRIPT), client.register_script(COMMIT_SCRIPT)

    def load(self, session_ids: Sequence[str]) -> list[Stored | None]:
        """Each session's record, None where there is none.

        Raises:
            Unavailable: if Redis does not answer.
        """
        if not session_ids:
            return []
        try:
            replies = cast("list[Any]", self._load(keys=self._keys(session_ids)))
        except redis.RedisError as error:
            self._note(error)
            raise _unreachable(str(error)) from error
        self._note(None)
        return [
            None if data is None else Stored(data, left) for data, left in zip(replies[::2], replies[1::2], strict=True)
        ]

    def commit(self, commits: Sequence[Commit]) -> dict[str, Verdict | RetryableError]:
        """Carry out all commits whose stamps still hold, atomically; what became of each session's.

        A session whose write Redis refused (out of memory, for example) has its error, and is as it was.

        Raises:
            Unavailable: if Redis does not answer; whether anything was written is unknown.
        """
        if not commits:
            return {}
        # Deletions last: a full Redis refuses only what comes before a script's first successful write.
        commits = sorted(commits, key=lambda commit: commit.operation is Operation.CLOSE)
        arguments: list[bytes | str | int] = []
        for commit in commits:
            arguments += (
                commit.operation.value, commit.expected, commit.payload, commit.lifetime_ms, commit.trace_ms
            )  # fmt: skip
        keys = self._keys(commit.session_id for commit in commits)
        try:
            replies = cast("list[int | bytes]", self._commit(keys=keys, args=arguments))
        except redis.RedisError as error:
            self._note(error)
            raise _unavailable(str(error), "whether the observations were appended is unknown") from error
        self._note(None)
        if any(isinstance(reply, bytes) and b"READONLY" in reply for reply in replies):
            # After a failover the old primary still answers on this connection; the next one asks for the address anew.
            self._redis.connection_pool.disconnect(inuse_connections=False)
        return {commit.session_id: _verdict(reply) for commit, reply in zip(commits, replies, strict=True)}

    def scan(self, prefix: str, cursor: int, count: int) -> tuple[list[str], int]:
        """About `count` sessions whose id begins with `prefix`, and where to go on; 0 after the last one.

        Raises:
            Unavailable: if Redis does not answer.
        """
        pattern = re.sub(r"([\\*?\[\]^-])", r"\\\1", self._prefix + prefix) + "*"
        try:
            after, keys = cast("tuple[int, list[bytes]]", self._redis.scan(cursor, pattern, count, _type="string"))
        except redis.RedisError as error:
            self._note(error)
            raise _unreachable(str(error)) from error
        self._note(None)
        names = dict.fromkeys(key.decode(errors="replace") for key in keys)  # a page may name a key twice
        return [name.removeprefix(self._prefix) for name in names], after

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()

    def _note(self, error: redis.RedisError | None) -> None:
        """Tell the log when Redis is lost and when it is back, not how often."""
        if error and not self._lost:
            log.error("Redis cannot be used: %s", error)
        elif self._lost and not error:
            log.info("Redis is back")
        self._lost = error is not None

    def _keys(self, session_ids: Iterable[str]) -> list[str]:
        return [self._prefix + session_id for session_id in session_ids]


def require_durable(client: redis.Redis, url: str, *, allow_volatile: bool) -> None:
    """Make sure that Redis answers and keeps what it is given.

    Raises:
        StartupError: if Redis does not answer, evicts keys or does not persist (the latter two unless allowed).
    """
    try:
        memory = cast("dict[str, object]", client.info("memory"))
        persistence = cast("dict[str, object]", client.info("persistence"))
    except redis.ConnectionError as error:
        raise StartupError(f"Redis at {redact(url)} cannot be reached: {error}") from error
    except redis.RedisError as error:
        raise StartupError(f"Redis at {redact(url)} does not let us in: {error}") from error
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if allow_volatile:
        return
    if policy.startswith(_EVICTING):
        raise StartupError(
            f"Redis at {redact(url)} evicts keys when it is full (maxmemory-policy {policy}): sessions would vanish. "
            "Set maxmemory-policy noeviction, or pass --allow-volatile-redis to run anyway."
        )
    if not int(str(persistence.get("aof_enabled", 0))):
        raise StartupError(
            f"Redis at {redact(url)} does not keep an append-only file: acknowledged observations would be lost when "
            "it restarts. Set appendonly yes, or pass --allow-volatile-redis to run anyway."
        )


def redact(url: str) -> str:
    """The URL without its password and its options, which may hold one."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{'***@' if at else ''}{place}"


def _verdict(reply: int | bytes) -> Verdict | RetryableError:
    if reply == NOT_RENEWED:
        log.error("Redis refuses PEXPIRE: sessions will expire although they are in use")
        return Verdict.DONE
    if isinstance(reply, int):
        return Verdict(reply)
    problem = reply.decode(errors="replace")
    if "OOM" in problem:
        return Overloaded("Redis is out of memory; nothing was appended.", Reason.STORE_FULL, 1.0)
    return _unreachable(problem)


def _unavailable(error: str, consequence: str, reason: Reason = Reason.STORE_UNAVAILABLE) -> Unavailable:
    return Unavailable(
        f"Redis cannot be used now ({error}); {consequence}. Send the same request again.",
        reason,
        RETRY_AFTER_SECONDS,
    )


def _unreachable(error: str) -> Unavailable:
    """The error where Redis was not even asked to write."""
    return _unavailable(error, "nothing was appended", Reason.STORE_UNREACHABLE)
