"""The primary that Sentinels name: each new connection asks them, and leaves a Redis that is a replica by now."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from redis.connection import Connection, SSLConnection, parse_url
from redis.exceptions import AuthenticationError, ReadOnlyError, RedisError

from statecast.service.store.redis_url import Address

log = logging.getLogger(__name__)

FRESH_SECONDS = 0.1
"""Time for which several connections that open at once share an answer."""


class PrimaryUnknown(redis.ConnectionError):
    """No Sentinel answers, or none knows the primary."""


class Sentinels:
    """Some Sentinels and the name by which they know a primary; thread-safe."""

    def __init__(self, clients: Sequence[redis.Redis], name: str) -> None:
        self._clients, self._name = tuple(clients), name
        self._current: tuple[Address, float] | None = None

    @property
    def current(self) -> Address | None:
        """The primary as of the last answer."""
        return self._current[0] if self._current else None

    def ask(self) -> Address:
        """Return the primary: the one that was elected last, if the Sentinels do not agree.

        Raises:
            PrimaryUnknown: if no Sentinel answers, or none knows the primary.
            AuthenticationError: if the Sentinels want another password.
        """
        if self._current and time.monotonic() - self._current[1] < FRESH_SECONDS:
            return self._current[0]
        with ThreadPoolExecutor(len(self._clients), thread_name_prefix="sentinel") as threads:
            answers = list(threads.map(self._ask_one, self._clients))
        found = [each for each in answers if not isinstance(each, RedisError)]
        if not found:
            raise self._failure([each for each in answers if isinstance(each, RedisError)])
        _, address = max(found)
        if self._current and self._current[0] != address:
            log.warning("the Sentinels name another primary of %s: %s", self._name, address)
        self._current = (address, time.monotonic())
        return address

    def close(self) -> None:
        """Close the connections to the Sentinels."""
        for client in self._clients:
            client.close()

    def _ask_one(self, client: Any) -> tuple[int, Address] | RedisError:
        """Return the epoch in which the primary was elected, and its address."""
        try:
            told = client.execute_command("SENTINEL", "MASTER", self._name)
        except RedisError as error:
            return error
        fields = {name.decode(): value.decode() for name, value in _pairs(told)}
        return int(fields["config-epoch"]), Address(fields["ip"], int(fields["port"]))

    def _failure(self, errors: Sequence[RedisError]) -> RedisError:
        for error in errors:
            if isinstance(error, AuthenticationError):
                return AuthenticationError(
                    f"a Sentinel says: {error}; name its user and password in redis-url, as in "
                    "?sentinel_username=...&sentinel_password=..."
                )
        told = "; ".join(dict.fromkeys(str(error) for error in errors))
        if "No such master" in told:
            return PrimaryUnknown(f"the Sentinels know no primary named {self._name!r}")
        if "unknown command" in told.lower():
            return PrimaryUnknown("these addresses are those of a Redis; name those of its Sentinels in redis-url")
        return PrimaryUnknown(f"no Sentinel answers ({told})")


class ToPrimary:
    """A connection that asks for the address whenever it opens."""

    def __init__(self, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)

    @property
    def is_left_behind(self) -> bool:
        """True if the Sentinels have named another primary since."""
        return (self.host, self.port) != self._sentinels.current

    def _connect(self) -> Any:
        self.host, self.port = self._sentinels.ask()
        return super()._connect()  # type: ignore[misc]


class _Plain(ToPrimary, Connection):
    """Without TLS."""


class _Secure(ToPrimary, SSLConnection):
    """With TLS."""


class PrimaryPool(redis.ConnectionPool):
    """Connections to the primary."""

    def __init__(self, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(sentinels=sentinels, redis_connect_func=_greet, **options)
        self.sentinels = sentinels

    def look(self) -> None:
        """Ask the Sentinels; if the primary is another by now, connections to the old one are not used again.

        Raises:
            redis.RedisError: if no Sentinel answers.
        """
        before = self.sentinels.current
        if self.sentinels.ask() != before:
            self.disconnect(inuse_connections=False)

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections, and those to the Sentinels unless only idle ones are meant."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinels.close()


def primary_client(url: str, options: Mapping[str, Any], sentinels: Sentinels) -> redis.Redis:
    """Return a client that connects as `url` and `options` say, but to the primary that the Sentinels name."""
    found = {**options, **parse_url(url)}  # type: ignore[no-untyped-call]
    is_secure = found.pop("connection_class", None) is SSLConnection
    pool = PrimaryPool(sentinels, connection_class=_Secure if is_secure else _Plain, **found)
    return redis.Redis.from_pool(pool)


def _greet(connection: Any) -> None:
    """Begin a connection; refuse one to a replica, which Sentinels may name for a moment."""
    connection.on_connect()
    connection.send_command("INFO", "replication")
    if b"role:master" not in connection.read_response():
        raise ReadOnlyError(f"{connection.host}:{connection.port} is a replica by now")


def _pairs(told: Any) -> Any:
    """Return names and values of an answer, which is a list or a map by the version of the protocol."""
    return told.items() if isinstance(told, dict) else zip(told[::2], told[1::2], strict=True)
