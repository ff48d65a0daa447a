"""Opens the storage of sessions: an embedded Redis, or the one that the settings name."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from statecast.service.errors import StartupError
from statecast.service.settings import Settings, default_data_dir
from statecast.service.store.catalog import Catalog
from statecast.service.store.connection import TlsFiles, open_redis
from statecast.service.store.embedded import EmbeddedRedis
from statecast.service.store.nodes import Client
from statecast.service.store.redis_store import Store
from statecast.service.store.redis_url import redact
from statecast.service.store.requirements import require

log = logging.getLogger(__name__)

SHARED_STORES = 3
"""Of the watch of policies, the count of sessions, and operators' changes."""


@dataclass(frozen=True)
class Kept:
    """The session storage: Redis, the catalog, and the stores of the other parts.

    Those are the engines, exports and imports, the page, and what servers share about models.
    """

    stores: list[Store]
    transfer_store: Store
    page_stores: list[Store]
    shared_stores: list[Store]
    catalog: Catalog
    client: Client
    url: str


@contextmanager
def open_stores(settings: Settings) -> Iterator[Kept]:
    """Open the stores, with an embedded Redis unless `redis_url` names another.

    Raises:
        StartupError: if Redis cannot be used.
    """
    embedded = None
    url = settings.redis_url
    if not url:
        embedded = EmbeddedRedis(settings.data_dir or default_data_dir())
        embedded.start()
        url = embedded.url
    client = open_redis(url, settings.redis_timeout_seconds, _password(settings), _files(settings, embedded))
    try:
        require(client, url, settings.namespace, allow_volatile=settings.allow_volatile_redis)
        if settings.allow_volatile_redis:
            log.warning("allow-volatile-redis: sessions may be lost, since Redis' persistence is not checked")
        log.info(
            "sessions are kept in %s Redis at %s",
            "the embedded" if embedded else "the",
            redact(url),
        )
        catalog = Catalog(Store(client, settings.namespace))
        transfer_store, *stores = (Store(client, settings.namespace) for _ in range(1 + settings.engine_threads))
        page_stores = [Store(client, settings.namespace) for _ in range(2 if settings.page else 0)]
        shared_stores = [Store(client, settings.namespace) for _ in range(SHARED_STORES)]
        yield Kept(stores, transfer_store, page_stores, shared_stores, catalog, client, url)
        catalog.close()
        for store in (transfer_store, *page_stores, *shared_stores, *stores):
            store.close()
    finally:
        client.close()
        if embedded:
            embedded.stop()


def _files(settings: Settings, embedded: EmbeddedRedis | None) -> TlsFiles:
    return TlsFiles() if embedded else TlsFiles(settings.redis_ca, settings.redis_cert, settings.redis_key)


def _password(settings: Settings) -> str | None:
    """Read the password of Redis from its file."""
    if settings.redis_password_file is None or not settings.redis_url:
        return None
    try:
        return settings.redis_password_file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"redis-password-file {settings.redis_password_file} cannot be read: {error}") from error
