"""The documents that servers share in Redis, apart from all tenants' keys: the policies, and an outline of each model.

Each ends in a stamp, as sessions' records do, and is committed likewise: only if nobody has changed it meanwhile.
"""

import logging
import os
from collections.abc import Callable, Iterable

from statecast.service.errors import ServiceError, Unavailable
from statecast.service.models.policies import Policies
from statecast.service.models.registry import Model
from statecast.service.session_key import session_key
from statecast.service.shared.outline import Outline
from statecast.service.store.record import STAMP_BYTES
from statecast.service.store.redis_store import Commit, Operation, Store, Stored, Verdict
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

YEAR_MS = 365 * 86_400_000
LIFETIME_MS = 11 * YEAR_MS
"""Longer than a session may rest; each start of a server with the model renews it."""
ATTEMPTS = 8
POLICIES = session_key("", "policies")  # no tenant's name is empty


class Documents:
    """Reads and writes the shared documents. Not thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def policies(self) -> Policies:
        """Return the policies; empty ones if there are none.

        Raises:
            ServiceError: if Redis cannot be used, or holds something else there.
        """
        return _policies(self._store.load([POLICIES])[0])

    def change_policies(self, change: Callable[[Policies], Policies]) -> Policies:
        """Change the policies, and return them; `change` may be called again if others change them meanwhile.

        Raises:
            ServiceError: if Redis cannot be used, or others do not stop changing them.
        """
        for _ in range(ATTEMPTS):
            stored = self._store.load([POLICIES])[0]
            current = _policies(stored)
            changed = change(current)
            if changed is current or self._replace(POLICIES, stored, changed.to_json()):
                return changed
        raise Unavailable("others kept changing the policies; send the same request again", Reason.CONTENDED)

    def outline(self, digest: bytes) -> Outline | None:
        """Return the outline of a model that some server has had; None if there is none that can be read.

        Raises:
            ServiceError: if Redis cannot be used.
        """
        stored = self._store.load([_outline_key(digest)])[0]
        if stored is None:
            return None
        try:
            return Outline.from_json(stored.data[:-STAMP_BYTES])
        except ValueError as error:
            log.warning("the outline of model %s in Redis cannot be read: %s", digest.hex(), error)
            return None

    def publish(self, models: Iterable[Model]) -> None:
        """Write the outlines that are absent, and those that end within some years.

        Raises:
            ServiceError: if Redis cannot be used.
        """
        models = list(models)
        keys = [_outline_key(model.digest_bytes) for model in models]
        for key, model, stored in zip(keys, models, self._store.load(keys), strict=True):
            if stored is None or 0 <= stored.remaining_ms < LIFETIME_MS - YEAR_MS:
                self._replace(key, stored, Outline.of(model).to_json())

    def _replace(self, key: str, stored: Stored | None, content: bytes) -> bool:
        """Write a document in place of what was read; return False if somebody else has changed it."""
        expected = b"" if stored is None else stored.data[-STAMP_BYTES:]
        payload = content + os.urandom(STAMP_BYTES)
        verdict = self._store.commit([Commit(key, Operation.REPLACE, expected, payload, LIFETIME_MS)])[key]
        if isinstance(verdict, ServiceError):
            raise verdict
        return verdict is Verdict.DONE


def _outline_key(digest: bytes) -> str:
    return session_key("", f"outline:{digest.hex()}")


def _policies(stored: Stored | None) -> Policies:
    if stored is None:
        return Policies()
    try:
        return Policies.from_json(stored.data[:-STAMP_BYTES])
    except ValueError as error:
        raise Unavailable(f"the policies in Redis cannot be read: {error}", Reason.MODEL_UNAVAILABLE) from error
