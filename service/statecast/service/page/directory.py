"""Lists a tenant's sessions by name, in order and page by page, from the keys in Redis."""

import threading
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from dataclasses import dataclass

from statecast.service.errors import Overloaded
from statecast.service.session_key import id_of, session_key
from statecast.service.store.catalog import Summary
from statecast.service.store.record import DamagedRecord, decode, has_expired
from statecast.service.store.redis_store import Store
from statecast.v1.reasons import Reason

KEYS_AT_ONCE = 1000
MOST_NAMES, MOST_SECONDS = 100_000, 2.0
"""Names that a search finds at most, and how long it may take."""
FRESH_SECONDS, KEPT_SEARCHES = 1.0, 8
WAIT_SECONDS = 5.0
LAST = chr(0x10FFFF)


@dataclass(frozen=True)
class Names:
    """The names that a search has found, in order; `is_complete` unless there were too many."""

    names: list[str]
    is_complete: bool
    found_at: float


@dataclass(frozen=True)
class Row:
    """A session on a page; `problem` says why it has no summary."""

    session_id: str
    summary: Summary | None
    problem: str = ""


@dataclass(frozen=True)
class Page:
    """Some of the sessions with a prefix, and how many there are; at least so many unless `is_complete`."""

    rows: list[Row]
    total: int
    is_complete: bool


class Directory:
    """Answers searches one at a time, and remembers what they have found for some seconds."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._searches: OrderedDict[tuple[str, str], Names] = OrderedDict()

    def page(self, tenant: str, prefix: str, offset: int, size: int) -> Page:
        """Return `size` sessions from `offset` on, in the order of their names. Traces of closed ones count.

        Raises:
            Overloaded: if other searches take too long.
            Unavailable: if Redis does not answer.
        """
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            raise Overloaded("other searches are under way; try again", Reason.QUEUE_FULL, 1.0)
        try:
            found = self._names(tenant, prefix)
            names = found.names[offset : offset + size]
            return Page(self._rows(tenant, names), len(found.names), found.is_complete)
        finally:
            self._lock.release()

    def _names(self, tenant: str, prefix: str) -> Names:
        now = time.monotonic()
        for (owner, searched), names in reversed(self._searches.items()):
            is_fresh = now - names.found_at < FRESH_SECONDS and (names.is_complete or searched == prefix)
            if owner == tenant and prefix.startswith(searched) and is_fresh:
                first, last = bisect_left(names.names, prefix), bisect_right(names.names, prefix + LAST)
                return Names(names.names[first:last], names.is_complete, names.found_at)
        found = self._searches[tenant, prefix] = self._search(tenant, prefix)
        self._searches.move_to_end((tenant, prefix))
        if len(self._searches) > KEPT_SEARCHES:
            self._searches.popitem(last=False)
        return found

    def _search(self, tenant: str, prefix: str) -> Names:
        until, cursor, names = time.monotonic() + MOST_SECONDS, 0, set[str]()
        while len(names) < MOST_NAMES and time.monotonic() < until:
            keys, cursor = self._store.scan(tenant, prefix, cursor, KEYS_AT_ONCE)
            names.update(map(id_of, keys))
            if not cursor:
                break
        return Names(sorted(names), not cursor, time.monotonic())

    def _rows(self, tenant: str, names: list[str]) -> list[Row]:
        keys = [session_key(tenant, name) for name in names]
        rows = []
        for name, key, stored in zip(names, keys, self._store.load(keys), strict=True):
            if stored is None:
                rows.append(Row(name, None, "gone"))
                continue
            try:
                record = decode(key, stored.data)
            except DamagedRecord:
                rows.append(Row(name, None, "damaged"))
                continue
            is_over = record.snapshot.closed or has_expired(record.snapshot, stored.remaining_ms)
            problem = "closed" if record.snapshot.closed else "expired"
            rows.append(Row(name, None, problem) if is_over else Row(name, Summary(name, record)))
        return rows
