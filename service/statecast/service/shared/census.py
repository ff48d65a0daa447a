"""Counts the sessions that stand on each version of each model, from the beginnings of all records in Redis."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from statecast.service.store.record import decode_beginning, has_expired
from statecast.service.store.redis_store import Store

KEYS_AT_ONCE = 500

Place: TypeAlias = tuple[str, str, bytes]
"""Name, version and digest of a model."""


def count(store: Store, pause: Callable[[float], bool] = lambda _: False) -> Counter[Place] | None:
    """Count the open sessions of all tenants by their model; one may count twice while Redis rearranges its keys.

    Args:
        store: Their store.
        pause: Called after each page but the last with the seconds that it took; True ends the count.

    Returns:
        The number of sessions on each model; None if the count was ended.

    Raises:
        ServiceError: if Redis cannot be used.
    """
    found: Counter[Place] = Counter()
    cursor = 0
    while True:
        started = time.perf_counter()
        keys, cursor = store.scan(None, "", cursor, KEYS_AT_ONCE)
        found.update(_places(store, keys))
        if not cursor:
            return found
        if pause(time.perf_counter() - started):
            return None


def _places(store: Store, keys: Sequence[str]) -> Iterator[Place]:
    for stored in store.load_beginnings(keys):
        beginning = decode_beginning(stored.data) if stored is not None else None
        if stored is None or beginning is None or beginning.is_over or has_expired(beginning, stored.remaining_ms):
            continue
        yield beginning.model, beginning.model_version, beginning.model_digest
