"""JSON Web Tokens: an identity provider signs them; the server checks them with the provider's public keys."""

import asyncio
import hashlib
import logging
import re
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import jwt

from statecast.service.access.jwks import Key, Keys, Unusable
from statecast.service.access.principal import ROLES, Principal, principal_of
from statecast.service.errors import StartupError, Unauthenticated, quoted
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

LONGEST_TOKEN = 16 * 1024
VERIFIED_TOKENS = 10_000
"""Tokens remembered as verified."""
_SEGMENT = "[A-Za-z0-9_-]+"
# PyJWT would also accept padding, and so several spellings of one token.
_TOKEN = re.compile(rf"{_SEGMENT}\.{_SEGMENT}\.{_SEGMENT}")
_LONGEST_CLAIM = 65
"""A longer tenant or role is not valid either, and would not fit into an error."""


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """The tokens that a server accepts.

    Attributes:
        keys: Path or URL of the JWKS document with the issuer's public keys: https, or http on this machine.
        issuer: The `iss` of each token.
        audience: The `aud` of each token, or one of them.
        tenant_claim: Name of the claim with the tenant; dots lead into nested objects.
        role_claim: Name of the claim with the role. In a list of roles the highest counts.
        leeway_seconds: Accepted difference between the clocks of issuer and server.
    """

    keys: str
    issuer: str
    audience: str
    tenant_claim: str = "tenant"
    role_claim: str = "role"
    leeway_seconds: float = 30


class Tokens:
    """Verifies tokens. Call `load` first, and keep `refresh` running in the same event loop as `find`."""

    def __init__(self, settings: TokenSettings) -> None:
        """Take settings.

        Raises:
            StartupError: if issuer or audience are empty, or the URL of the keys is not safe.
        """
        for name, value in (("jwt-issuer", settings.issuer), ("jwt-audience", settings.audience)):
            if not value:
                raise StartupError(f"{name} is empty, so no token would be accepted; set it to what the tokens contain")
        self._settings = settings
        self._keys = Keys(settings.keys)
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()
        self._key_missed = asyncio.Event()

    async def load(self) -> None:
        """Read the keys.

        Raises:
            StartupError: if they cannot be read, or none of them is usable.
        """
        try:
            await self._keys.update()
        except Unusable as error:
            raise StartupError(f"jwt-keys {error}") from error

    async def refresh(self) -> None:
        """Keep the keys up to date until cancelled; those from before stay in use while they cannot be read."""
        warned: set[str] = set()
        while True:
            await self._pause()
            try:
                has_changed = await self._keys.update()
            except Unusable as error:
                if error.problem not in warned:
                    warned.add(error.problem)
                    log.warning("jwt-keys %s; the keys from before are kept", error.problem)
                continue
            warned.clear()
            if has_changed:
                self._verified.clear()

    async def _pause(self) -> None:
        shortest = self._keys.shortest_pause_seconds
        await asyncio.sleep(shortest)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._key_missed.wait(), self._keys.pause_seconds - shortest)
        self._key_missed.clear()

    def trusts(self, signer: str) -> bool:
        """Return whether the key that has signed a token is still in use."""
        return any(key.digest == signer for key in self._keys.usable)

    def find_verified(self, token: str) -> Principal | None:
        """Return the principal of a token that was verified before, expired or not; None if it is to be verified."""
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        principal = self._verified.get(digest)
        if principal is not None:
            self._verified.move_to_end(digest)
        return principal

    def find(self, token: str) -> Principal:
        """Return the principal of a token, without waiting for anything; it expires with the token and the leeway.

        Raises:
            Unauthenticated: if the token is not valid, or has expired.
        """
        if len(token) > LONGEST_TOKEN:
            raise _wrong("is longer than 16 KiB; ask for one with fewer claims")
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        principal = self._verified.get(digest)
        if principal is None:
            principal = self._verified[digest] = self._principal(*self._claims(token))
            if len(self._verified) > VERIFIED_TOKENS:
                self._verified.popitem(last=False)
        elif principal.expires_at is not None and time.time() >= principal.expires_at:
            del self._verified[digest]
            raise self._expired()
        else:
            self._verified.move_to_end(digest)
        return principal

    def _claims(self, token: str) -> tuple[dict[str, Any], str]:
        """Return the claims of a token whose signature, times, issuer and audience are right, and its key's digest."""
        settings = self._settings
        try:
            key, algorithm = self._key_for(_header(token))
            claims = jwt.decode(
                token,
                key=key.public,
                algorithms=[algorithm],
                options={"require": ["exp", "iss", "aud"]},
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_seconds,
            )
            return claims, key.digest
        except jwt.ExpiredSignatureError:
            raise self._expired() from None
        except jwt.MissingRequiredClaimError as error:
            raise _wrong(f"lacks the claim {error.claim!r}; ask for one that has it") from None
        except jwt.ImmatureSignatureError:
            raise _wrong(
                "is not valid yet; try again later, and compare the clocks of its issuer and this server"
            ) from None
        except jwt.InvalidIssuerError:
            raise _wrong(f"is from another issuer; ask {settings.issuer!r} for one") from None
        except jwt.InvalidAudienceError:
            raise _wrong(f"is for another audience; ask for one for {settings.audience!r}") from None
        except jwt.InvalidSignatureError:
            raise _wrong("has a wrong signature; send it exactly as it was issued") from None
        except (jwt.InvalidTokenError, RecursionError):
            raise _wrong("is malformed; send it exactly as it was issued") from None

    def _key_for(self, header: dict[str, Any]) -> tuple[Key, str]:
        """Return the key that a header names, and the algorithm, which fits the key."""
        kid, algorithm = header.get("kid"), header.get("alg")
        if "crit" in header:
            raise _wrong("has a header 'crit', whose extensions this server does not know; ask for one without it")
        keys = self._keys.usable if kid is None else [key for key in self._keys.usable if key.kid == kid]
        if kid is not None and not keys:
            self._key_missed.set()
            raise _wrong(
                f"names the key {quoted(kid)}, which this server lacks; if the key is new, try again in a minute"
            )
        if kid is None and len(keys) != 1:
            raise _wrong("names no key in its header 'kid', and this server has several; ask for one that does")
        for key in keys:
            if algorithm in key.algorithms:
                return key, str(algorithm)
        fitting = " or ".join(sorted({each for key in keys for each in key.algorithms}))
        raise _wrong(f"is signed with {quoted(str(algorithm))}, which does not fit its key; ask for one with {fitting}")

    def _principal(self, claims: dict[str, Any], signer: str) -> Principal:
        """Return the principal of verified claims, which the key with this digest has signed."""
        expires_at = claims["exp"]
        # PyJWT takes text for a number; the comparison is false for NaN.
        if not isinstance(expires_at, int | float) or not 0 <= expires_at <= 2**53:
            raise _wrong("has an 'exp' that is no time in seconds; ask for another one")
        subject = claims.get("sub") or claims.get("jti") or "without subject"
        name = f"token {subject if subject.isprintable() else ascii(subject)}"[:100]
        tenant = self._text(claims, self._settings.tenant_claim)
        role = self._text(claims, self._settings.role_claim)
        try:
            return principal_of(tenant, role, name, float(expires_at) + self._settings.leeway_seconds, signer=signer)
        except ValueError as error:
            raise _wrong(f"has a wrong claim: {error}; ask {self._settings.issuer!r} for another one") from None

    def _text(self, claims: dict[str, Any], name: str) -> str:
        value = _claim(claims, name)
        if isinstance(value, list) and name == self._settings.role_claim:
            known = [each for each in value if isinstance(each, str) and each in ROLES]
            value = max(known, key=ROLES.__getitem__, default=None)
        if not isinstance(value, str):
            raise _wrong(f"has no usable claim {name!r}; ask {self._settings.issuer!r} for one that has it")
        return value[:_LONGEST_CLAIM]

    def _expired(self) -> Unauthenticated:
        message = f"the token has expired; ask {self._settings.issuer!r} for another one"
        return Unauthenticated(message, Reason.CREDENTIAL_EXPIRED)


def _wrong(problem: str) -> Unauthenticated:
    return Unauthenticated(f"the token {problem}", Reason.CREDENTIAL_INVALID)


def _header(token: str) -> dict[str, Any]:
    if not _TOKEN.fullmatch(token):
        raise _wrong("is not a signed JSON Web Token: three parts with dots between; send it exactly as it was issued")
    return jwt.get_unverified_header(token)


def _claim(claims: dict[str, Any], name: str) -> object:
    """Return a claim; a name that is not itself a claim leads from object to object at its dots."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
