"""Makes the gate that the settings ask for, and keeps it up to date."""

import asyncio
import ipaddress
import logging
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from statecast.service.access.certificates import Certificates, read_certificates
from statecast.service.access.gate import Gate
from statecast.service.access.key_file import KeyFile
from statecast.service.access.principal import Principal, principal_of
from statecast.service.access.quotas import Quotas
from statecast.service.access.tokens import Tokens, TokenSettings
from statecast.service.errors import StartupError
from statecast.service.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


def certificates(settings: Settings) -> Certificates | None:
    """Return the server's certificates; None without TLS.

    Raises:
        StartupError: if they cannot be used, or a setting needs another one.
    """
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        for name in ("tls_client_ca", "tls_subjects"):
            if getattr(settings, name) is not None:
                raise StartupError(f"{name.replace('_', '-')} needs TLS: set tls-cert and tls-key as well")
        return None
    if cert is None or key is None:
        missing, other = ("tls-cert", "tls-key") if cert is None else ("tls-key", "tls-cert")
        raise StartupError(f"{other} is set without {missing}; set both, or neither")
    if settings.tls_subjects is not None and settings.tls_client_ca is None:
        raise StartupError("tls-subjects needs tls-client-ca, so that callers show certificates")
    return read_certificates(cert, key, settings.tls_client_ca)


class Access:
    """The gate of a server, and the files and keys behind it."""

    def __init__(self, settings: Settings) -> None:
        """Read the files that the settings name.

        Raises:
            StartupError: if one cannot be used, or a setting needs another one.
        """
        self._key_file = KeyFile(settings.api_keys) if settings.api_keys else None
        self._tokens = _tokens(settings)
        subjects = read_subjects(settings.tls_subjects) if settings.tls_subjects else None
        self.quotas = Quotas(settings.tenant_limits)
        self.gate = Gate(self._key_file, self._tokens, subjects, settings.max_wrong_credentials)

    async def load(self) -> None:
        """Fetch the keys that sign tokens.

        Raises:
            StartupError: if there are none.
        """
        if self._tokens:
            await self._tokens.load()

    async def look_after(self, *looks: Callable[[], None]) -> None:
        """Read changed files again; call each of `looks` every second, so that it can end what is no longer allowed."""
        refreshing = asyncio.ensure_future(self._tokens.refresh()) if self._tokens else None
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                try:
                    self._look()
                    for look in looks:
                        look()
                except Exception:  # a bug; revoked keys must still be noticed next time
                    log.exception("the files of access could not be looked at")
        finally:
            if refreshing:
                refreshing.cancel()

    def _look(self) -> None:
        self.quotas.look()
        if self._key_file:
            self._key_file.look()


def _tokens(settings: Settings) -> Tokens | None:
    if not settings.jwt_keys:
        for name in ("jwt-issuer", "jwt-audience"):
            if getattr(settings, name.replace("-", "_")):
                raise StartupError(f"{name} needs jwt-keys, the JWKS with the keys that sign tokens")
        return None
    for name in ("jwt-issuer", "jwt-audience"):
        if not getattr(settings, name.replace("-", "_")):
            raise StartupError(f"jwt-keys needs {name}: without it, tokens made for other services would be taken")
    return Tokens(
        TokenSettings(
            settings.jwt_keys,
            settings.jwt_issuer,
            settings.jwt_audience,
            settings.jwt_tenant_claim,
            settings.jwt_role_claim,
        )
    )


def read_subjects(path: Path) -> dict[str, Principal]:
    """Read a file of certificate subjects: `[subjects."CN=meter,O=Acme"]` with `tenant` and `role`.

    Raises:
        StartupError: if it cannot be used.
    """
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        subjects: dict[str, dict[str, Any]] = content["subjects"]
        if not subjects:
            raise ValueError("it names no subject, so nobody could call")
        return {
            subject: principal_of(entry.get("tenant"), entry.get("role"), f"certificate {subject}")
            for subject, entry in subjects.items()
        }
    except OSError as error:
        raise StartupError(f"tls-subjects {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, AttributeError) as error:
        problem = "it has no table [subjects]" if isinstance(error, KeyError) else error
        raise StartupError(
            f'tls-subjects {path}: {problem}; an entry is [subjects."CN=meter,O=Acme"] with tenant and role'
        ) from error


def warn_if_exposed(settings: Settings, gate: Gate) -> None:
    """Log a warning if strangers can reach the server, and nothing keeps them out."""
    fixes = {} if settings.tls_cert else {"TLS": "--tls-cert with --tls-key"}
    if gate.is_open and not settings.tls_client_ca:
        fixes["authentication"] = "--api-keys"
    hosts = [settings.host, *([settings.metrics_host] if settings.page else [])]
    exposed = [host for host in hosts if not _is_loopback(host)]
    if not fixes or settings.insecure or not exposed:
        return
    log.warning(
        "listening on %s without %s: whoever reaches it can read and change sessions; set %s, or --insecure if the "
        "network is private",
        exposed[0],
        " and ".join(fixes),
        " and ".join(fixes.values()),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
