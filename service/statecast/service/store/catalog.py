"""Lists sessions directly from Redis, without the engine."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from statecast.service.errors import Overloaded
from statecast.service.session_key import DEFAULT_TENANT, id_of
from statecast.service.store.record import DamagedRecord, Record, decode, has_expired
from statecast.service.store.redis_store import Store
from statecast.v1.reasons import Reason

RECORDS_AT_ONCE = 64
MAX_WAITING, MOST_OF_A_TENANT = 64, 16
KEYS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Listing:
    """A query for a tenant's sessions whose id begins with `prefix`, from `cursor` on (0: the beginning)."""

    tenant: str = DEFAULT_TENANT
    prefix: str = ""
    cursor: int = 0
    size: int = 100


@dataclass(frozen=True, slots=True)
class Summary:
    """A session and its record; None if the record is damaged."""

    session_id: str
    record: Record | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of sessions, and the token of the next page; empty after the last one."""

    sessions: list[Summary]
    next_page_token: str


class Catalog:
    """Reads one page at a time, in its own thread and over its own connection."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="catalog")
        self._waiting: Counter[str] = Counter()

    async def page(self, listing: Listing) -> Page:
        """Return one page of sessions.

        Raises:
            Overloaded: if too many listings are waiting.
            Unavailable: if Redis does not answer.
        """
        own = self._waiting[listing.tenant]
        if own >= MOST_OF_A_TENANT or self._waiting.total() >= MAX_WAITING:
            raise Overloaded(f"{own} listings are already waiting; try again later", Reason.QUEUE_FULL, 0.5)
        self._waiting[listing.tenant] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, listing)
        finally:
            self._waiting[listing.tenant] -= 1
            if not self._waiting[listing.tenant]:
                del self._waiting[listing.tenant]

    async def count(self, tenant: str) -> int:
        """Return about how many sessions a tenant has, from all of its keys: closed ones count for a while.

        Raises:
            Unavailable: if Redis does not answer.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._count, tenant)

    def _count(self, tenant: str) -> int:
        found = cursor = 0
        while True:
            keys, cursor = self._store.scan(tenant, "", cursor, KEYS_AT_ONCE)
            found += len(keys)
            if not cursor:
                return found

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _read(self, listing: Listing) -> Page:
        keys, cursor = self._store.scan(listing.tenant, listing.prefix, listing.cursor, listing.size)
        sessions: list[Summary] = []
        for start in range(0, len(keys), RECORDS_AT_ONCE):
            some = keys[start : start + RECORDS_AT_ONCE]
            for key, stored in zip(some, self._store.load(some), strict=True):
                if stored is None:
                    continue
                try:
                    record = decode(key, stored.data)
                except DamagedRecord:
                    sessions.append(Summary(id_of(key), None))
                    continue
                if not record.snapshot.is_over and not has_expired(record.snapshot, stored.remaining_ms):
                    sessions.append(Summary(id_of(key), record))
        return Page(sessions, str(cursor) if cursor else "")
