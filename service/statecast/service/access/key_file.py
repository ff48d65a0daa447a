"""The file of API keys, read again when it changes."""

import logging
from pathlib import Path

from statecast.service.access.api_keys import ApiKeys, KeyFileError
from statecast.service.access.principal import Principal
from statecast.service.errors import StartupError

log = logging.getLogger(__name__)


class KeyFile:
    """The keys in a file; a change that cannot be read leaves those from before."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            StartupError: if it cannot be read.
        """
        self._path = path
        self._stamp = self._look()
        try:
            self._keys = ApiKeys.read(path)
        except KeyFileError as error:
            raise StartupError(f"api-keys: {error}") from error

    def find(self, token: str) -> Principal | None:
        """Return the principal of a key, expired or not; None if it is not in the file."""
        return self._keys.find(token)

    def holds(self, principal: Principal) -> bool:
        """Return whether the key of a principal is still in the file, for the same tenant and role."""
        return self._keys.principal(principal.key_id) == principal

    def look(self) -> bool:
        """Read the file again if it has changed; return whether it has."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._keys = ApiKeys.read(self._path)
        except KeyFileError as error:
            log.warning("api-keys: %s; the keys from before are kept", error)
            return False
        log.info("api-keys: %s was read again: %d keys", self._path, len(self._keys.by_id))
        return True

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
