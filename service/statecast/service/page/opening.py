"""Makes the page that the settings ask for."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import NamedTuple

from statecast.service.access.gate import Gate
from statecast.service.access.opening import Access
from statecast.service.access.principal import Principal
from statecast.service.access.quotas import Quotas
from statecast.service.errors import StartupError
from statecast.service.metrics_endpoint import MetricsEndpoint
from statecast.service.models.registry import Registry
from statecast.service.page.directory import Directory
from statecast.service.page.site import PATH, Admit, Site
from statecast.service.page.watcher import Watcher
from statecast.service.settings import Settings
from statecast.service.stores import Kept

__all__ = ["PATH", "check", "open_page"]

ADMIT_SECONDS = 5.0
"""Longest wait of a viewer for the event loop, which checks the credential."""


def check(settings: Settings) -> None:
    """Check that the page cannot be seen by those who may not call.

    Raises:
        StartupError: if it could.
    """
    if settings.page and settings.tls_client_ca and not (settings.api_keys or settings.jwt_keys):
        raise StartupError(
            "page needs api-keys or jwt-keys where tls-client-ca is set: its port asks for no client certificate"
        )


def open_page(
    settings: Settings, access: Access, kept: Kept, registry: Registry, endpoint: MetricsEndpoint, stack: AsyncExitStack
) -> Callable[[], None]:
    """Show the page until the stack ends; return a function to call every second, which ends revoked viewers."""
    watch_store, list_store = kept.page_stores
    watcher = Watcher(watch_store, registry, settings.page_viewers)
    watcher.start()
    stack.callback(watcher.stop)
    own_name = settings.metrics_host if access.gate.is_open else None
    site = Site(
        _admission(access.gate, access.quotas), watcher, Directory(list_store), registry, version("statecast"),
        settings.models, own_name,
    )  # fmt: skip
    endpoint.show(site.answer)
    return lambda: watcher.look(access.gate.refusal)


class _Shown(NamedTuple):
    """What a viewer shows of itself."""

    address: str
    header: str | None

    def peer(self) -> str:
        return self.address

    def authorization(self) -> str | None:
        return self.header

    def subject(self) -> str | None:
        return None


def _admission(gate: Gate, quotas: Quotas) -> Admit:
    """Return what admits viewers, in any thread; each request counts as one of the tenant's."""
    loop = asyncio.get_running_loop()

    async def admit(shown: _Shown) -> Principal:
        principal = gate.admit(shown)
        quotas.take(principal.tenant, 0)
        return principal

    return lambda authorization, peer: asyncio.run_coroutine_threadsafe(
        admit(_Shown(peer, authorization)), loop
    ).result(ADMIT_SECONDS)
