"""Scripts that Redis carries out atomically, called on a connection of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib import resources
from typing import Any

import hiredis
import redis
from redis.exceptions import MasterDownError, NoScriptError, ReadOnlyError

Argument = bytes | str | int


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the digest by which Redis knows it."""

    text: str
    digest: str

    @staticmethod
    def read(name: str) -> "Script":
        """Read the script from this package's file of that name."""
        text = resources.files(__package__).joinpath(name).read_text()
        return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


class ScriptConnection:
    """One connection to Redis, for scripts. Not thread-safe.

    A call is sent once: a commit repeated after a lost reply would conflict with itself.
    """

    def __init__(self, client: redis.Redis) -> None:
        """Connect as `client` does, at the first call."""
        self._connection: Any = client.connection_pool.make_connection()
        self._is_open = False

    def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> list[Any]:
        """Return the script's reply.

        Raises:
            redis.RedisError: if Redis does not answer, or answers with an error.
        """
        command = _pack("EVALSHA", script.digest, len(keys), *keys, *arguments)
        if self._is_open and not self._is_idle():
            self.close()
        try:
            replies: list[Any] = self._ask(command)
        except NoScriptError:  # nothing was carried out: Redis was restarted, or its scripts were flushed
            self._ask(_pack("SCRIPT", "LOAD", script.text))
            replies = self._ask(command)
        return replies

    def close(self) -> None:
        """Close the connection; the next call opens another, and resolves the address again."""
        self._connection.disconnect()
        self._is_open = False

    def _is_idle(self) -> bool:
        """Return False if Redis has closed the connection, or an earlier reply is still to be read."""
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


def _pack(*arguments: Argument) -> bytes:
    """Return a command as Redis reads it."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub allows one argument only
    return packed
