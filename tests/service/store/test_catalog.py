"""Sessions are listed a page at a time: open ones, and those whose record is damaged."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest
from support.redis_process import RedisProcess

from statecast.service.errors import Overloaded
from statecast.service.store.catalog import MOST_OF_A_TENANT, Catalog, Listing, Summary
from statecast.service.store.connection import connect
from statecast.service.store.record import Snapshot, encode_snapshot, new_stamp
from statecast.service.store.redis_store import Commit, Operation, Store
from statecast.service.version import Version


@pytest.fixture
def store(any_redis: RedisProcess) -> Store:
    return Store(connect(any_redis.url, 2.0), uuid.uuid4().hex)


@pytest.fixture
def catalog(store: Store) -> Iterator[Catalog]:
    catalog = Catalog(store)
    yield catalog
    catalog.close()


def put(store: Store, name: str, *, closed: bool = False, damaged: bool = False, key_ms: int = 120_000) -> None:
    snapshot = Snapshot(Version(3, 7), None, 60_000, model="tiny", model_version="1", width=1, closed=closed)
    data = encode_snapshot("another" if damaged else name, snapshot, new_stamp(snapshot.version))
    store.commit([Commit(name, Operation.REPLACE, b"", data, key_ms)])


async def listed(catalog: Catalog, prefix: str = "", size: int = 100) -> list[Summary]:
    """Return the sessions of all pages."""
    found, cursor = [], 0
    while True:
        page = await catalog.page(Listing("default", prefix, cursor, size))
        found += page.sessions
        if not page.next_page_token:
            return found
        cursor = int(page.next_page_token)


async def test_only_open_sessions_are_listed(store: Store, catalog: Catalog) -> None:
    put(store, "open")
    put(store, "closed", closed=True)
    put(store, "expired", key_ms=50_000)  # what is left of the key's life is the tombstone's
    put(store, "damaged", damaged=True)
    found = {each.session_id: each.record for each in await listed(catalog)}
    assert set(found) == {"open", "damaged"}
    assert found["damaged"] is None
    assert found["open"] is not None
    assert found["open"].snapshot.version == Version(3, 7)


async def test_pages_hold_every_session_whose_id_begins_so(store: Store, catalog: Catalog) -> None:
    names = {f"boiler [{number}]*" for number in range(200)}
    for name in (*names, "pump"):
        put(store, name)
    assert {each.session_id for each in await listed(catalog, "boiler [", size=10)} == names
    assert [each.session_id for each in await listed(catalog, "boiler [7]*")] == ["boiler [7]*"]
    assert not await listed(catalog, "b*")


async def test_more_listings_than_may_wait_are_refused(catalog: Catalog) -> None:
    results = await asyncio.gather(
        *(catalog.page(Listing()) for _ in range(MOST_OF_A_TENANT + 2)), return_exceptions=True
    )
    refused = [each for each in results if isinstance(each, Overloaded)]
    assert len(refused) == 2
    busy = [asyncio.ensure_future(catalog.page(Listing())) for _ in range(MOST_OF_A_TENANT)]
    await asyncio.sleep(0)
    assert not (await catalog.page(Listing("other"))).sessions
    await asyncio.gather(*busy)
    assert refused[0].retry_after_seconds == 0.5
    assert not (await catalog.page(Listing())).sessions
