"""The file of API keys, read again when it changes."""

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

from statecast.service.access.api_keys import ApiKey, ApiKeys, KeyFileError
from statecast.service.access.principal import Principal
from statecast.service.errors import StartupError
from statecast.service.log import AUDIT, with_fields

log = logging.getLogger(__name__)
audit = logging.getLogger(AUDIT)

WARN_SECONDS = 60.0
"""Time between two warnings of a file that cannot be used."""
MOST_IDS = 20
"""Ids of keys that one line may name."""


class KeyFile:
    """The keys in a file; a change that cannot be read leaves those from before."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            StartupError: if it cannot be read.
        """
        self._path = path
        self._stamp, self._warned_at = self._look(), -math.inf
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
        before = self._keys.by_id
        try:
            self._keys = ApiKeys.read(self._path)
        except KeyFileError as error:
            if time.monotonic() - self._warned_at > WARN_SECONDS:
                log.warning("api-keys: %s; the keys from before are kept, revoked ones as well", error)
                self._warned_at = time.monotonic()
            return False
        self._stamp, self._warned_at = stamp, -math.inf
        told = with_fields(**_changes(before, self._keys.by_id))
        audit.info("api-keys: %s was read again: %d keys", self._path, len(self._keys.by_id), extra=told)
        return True

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _changes(before: Mapping[str, ApiKey], after: Mapping[str, ApiKey]) -> Mapping[str, object]:
    """Return how many keys were added, removed and changed, and their ids, which are no secret."""
    ids = {
        "added": [each for each in after if each not in before],
        "removed": [each for each in before if each not in after],
        "changed": [each for each in after if each in before and after[each] != before[each]],
    }
    counts = {name: len(found) for name, found in ids.items()}
    return counts | {f"{name}_ids": ",".join(found[:MOST_IDS]) for name, found in ids.items()}
