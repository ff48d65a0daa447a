"""Scripts that Redis carries out atomically, called on a connection of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib import resources
from typing import Any, Protocol, cast

import hiredis
import redis
from redis.exceptions import MasterDownError, NoScriptError, ReadOnlyError

from statecast.service.errors import InvalidRequest
from statecast.service.store.sentinels import ToPrimary

Argument = bytes | str | int
CURSORS = 2**64
"""The cursor of a Redis is less. That of a cluster adds so many times a slot that the node serves."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the digest by which Redis knows it.

    Attributes:
        text: The code.
        digest: Its SHA-1.
        replies: Number of elements of its reply for each key.
        repeats: True if the script may run twice, because it writes nothing.
    """

    text: str
    digest: str
    replies: int
    repeats: bool

    @staticmethod
    def read(name: str, *, replies: int, repeats: bool = False) -> "Script":
        """Read the script from this package's file of that name."""
        text = resources.files(__package__).joinpath(name).read_text()
        return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest(), replies, repeats)


class NotCarriedOut(redis.ConnectionError):
    """Redis has not run the call: it was not sent, or was answered by an error instead, until the time was up."""


class Scripts(Protocol):
    """Calls scripts in one Redis, or in the nodes of a cluster. Not thread-safe."""

    def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> list[Any]:
        """Return the script's reply, `script.replies` elements a key. The arguments are as many for each key.

        A call is sent once, unless nothing has come of it for certain: a commit that is repeated after a lost reply
        would conflict with itself. In a cluster, the first element for a key may be the error for that key alone.

        Raises:
            redis.RedisError: if Redis does not answer, or answers with an error, for all keys.
        """

    def scan(self, cursor: int, pattern: str, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor, 0 after the last key, and about `count` keys of strings.

        Raises:
            redis.RedisError: if Redis does not answer, or answers with an error.
        """

    def close(self) -> None:
        """Close the connections; the next call opens others, and resolves addresses again."""


class ScriptConnection:
    """One connection to one Redis, for scripts. Not thread-safe."""

    def __init__(self, client: redis.Redis) -> None:
        """Connect as `client` does, at the first call."""
        self._client = client
        self._connection: Any = client.connection_pool.make_connection()
        self._is_open = False

    def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> list[Any]:
        """Return the script's reply: one call for all keys."""
        command = pack("EVALSHA", script.digest, len(keys), *keys, *arguments)
        if self._is_open and not self._is_idle():
            self.close()
        try:
            replies: list[Any] = self._ask(command)
        except NoScriptError:  # nothing was carried out: Redis was restarted, or its scripts were flushed
            self._ask(pack("SCRIPT", "LOAD", script.text))
            replies = self._ask(command)
        return replies

    def scan(self, cursor: int, pattern: str, count: int) -> tuple[int, list[bytes]]:
        """Return the next cursor and about `count` keys.

        Raises:
            InvalidRequest: if the cursor is that of a cluster.
        """
        if cursor >= CURSORS:
            raise InvalidRequest("page_token", "not of this Redis, which is no cluster; begin without one")
        return cast("tuple[int, list[bytes]]", self._client.scan(cursor, pattern, count, _type="string"))

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
        self._is_open = False

    def _is_idle(self) -> bool:
        """Return False if Redis has closed the connection, an earlier reply is still to be read, or it has moved."""
        if isinstance(self._connection, ToPrimary) and self._connection.is_left_behind:
            return False
        try:
            return not self._connection.can_read()
        except redis.ConnectionError:
            return False

    def _ask(self, command: bytes) -> Any:
        try:
            self._connection.send_packed_command([command])
            reply = self._connection.read_response()
        except (MasterDownError, ReadOnlyError):
            self.close()  # it is a replica by now; the next call resolves the address again
            raise
        except redis.ResponseError:
            raise
        except BaseException:
            self.close()  # else the next call might read this call's reply
            raise
        self._is_open = True
        return reply


def pack(*arguments: Argument) -> bytes:
    """Return a command as Redis reads it."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub allows one argument only
    return packed
