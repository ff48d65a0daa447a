"""JSON Web Tokens: an identity provider signs them; the server checks them with the provider's public keys."""

import asyncio
import hashlib
import ipaddress
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from statecast.service.access.principal import ROLES, Principal, principal_of
from statecast.service.errors import StartupError, Unauthenticated, quoted
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

LONGEST_TOKEN = 16 * 1024
VERIFIED_TOKENS = 10_000
"""Tokens remembered as verified."""
LARGEST_DOCUMENT = 1024 * 1024
"""Most bytes of a JWKS document."""
FETCH_SECONDS = 10.0
"""Timeout for connecting, for each part of the answer, and for the whole document."""
FILE_SECONDS = 5.0
"""Pause between reads of a file."""
MISS_SECONDS = 30.0
"""Shortest pause between fetches, which a token with an unknown key asks for."""
URL_SECONDS = 300.0
"""Pause between fetches, unless the answer's Cache-Control sets another."""
SHORTEST_AGE, LONGEST_AGE = 60.0, 3600.0
SMALLEST_RSA_BITS = 2048
ADVICE = "name the file, or the https URL, of a JWKS document that holds the issuer's public keys"

_ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC P-256": ("ES256",),
    "EC P-384": ("ES384",),
    "EC P-521": ("ES512",),
    "OKP Ed25519": ("EdDSA",),
    "OKP Ed448": ("EdDSA",),
}
"""Algorithms by type and curve of the key: only those with a public key, since HMAC would sign with a published one."""

_SEGMENT = "[A-Za-z0-9_-]+"
# PyJWT would also accept padding, and so several spellings of one token.
_TOKEN = re.compile(rf"{_SEGMENT}\.{_SEGMENT}\.{_SEGMENT}")
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_REASONS = 3
"""Skipped keys that a message lists."""
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
        self._keys = _Keys(settings.keys)
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()
        self._key_missed = asyncio.Event()

    async def load(self) -> None:
        """Read the keys.

        Raises:
            StartupError: if they cannot be read, or none of them is usable.
        """
        try:
            await self._keys.update()
        except _Unusable as error:
            raise StartupError(f"jwt-keys {error}") from error

    async def refresh(self) -> None:
        """Keep the keys up to date until cancelled; those from before stay in use while they cannot be read."""
        warned: set[str] = set()
        while True:
            await self._pause()
            try:
                has_changed = await self._keys.update()
            except _Unusable as error:
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

    def _key_for(self, header: dict[str, Any]) -> tuple["_Key", str]:
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


class _Unusable(Exception):
    """Keys cannot be used: the problem names them and says why."""

    def __init__(self, problem: str, next_step: str) -> None:
        super().__init__(f"{problem}; {next_step}")
        self.problem = problem


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str | None
    algorithms: tuple[str, ...]
    public: Any
    digest: str


class _Keys:
    """The usable keys of a document, and the pause until it is to be read again."""

    def __init__(self, source: str) -> None:
        self._source = _Url(source) if source.lower().startswith(("http://", "https://")) else _File(source)
        self._content: bytes | None = None
        self.usable: list[_Key] = []
        self.shortest_pause_seconds, self._retry_seconds = self._source.pauses
        self.pause_seconds = self.shortest_pause_seconds

    async def update(self) -> bool:
        """Read the document; return whether it has changed. Raise _Unusable, and keep the keys, if it is not usable."""
        self.pause_seconds = self._retry_seconds
        content, pause_seconds = await asyncio.to_thread(self._source.read)
        has_changed = content != self._content
        if has_changed:
            is_later = self._content is not None
            self.usable = await asyncio.to_thread(_keys_of, content, str(self._source), may_be_empty=is_later)
        self._content, self.pause_seconds = content, pause_seconds
        return has_changed


class _File:
    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self.pauses = FILE_SECONDS, FILE_SECONDS

    def __str__(self) -> str:
        return str(self._path)

    def read(self) -> tuple[bytes, float]:
        """Return the content, and the pause until the next read in seconds."""
        try:
            with self._path.open("rb") as file:
                return _whole(file.read, str(self)), FILE_SECONDS
        except OSError as error:
            raise _Unusable(f"{self} cannot be read: {error.strerror or error}", ADVICE) from error


class _Url:
    def __init__(self, url: str) -> None:
        parts = _safe_parts(url)
        self._shown: str = parts._replace(query="", fragment="").geturl()
        self._request = Request(url, headers={"Accept": "application/json", "User-Agent": "statecast"})
        # No proxy is on the way to this machine, and one elsewhere could replace the keys.
        direct = [ProxyHandler({})] if parts.scheme == "http" else []
        self._opener = build_opener(_SameOrigin(), *direct)
        self.pauses = MISS_SECONDS, SHORTEST_AGE

    def __str__(self) -> str:
        return self._shown

    def read(self) -> tuple[bytes, float]:
        """Return the content, and the pause until the next fetch in seconds."""
        try:
            with self._opener.open(self._request, timeout=FETCH_SECONDS) as answer:
                return _whole(answer.read1, str(self)), _age(answer.headers)
        except HTTPError as error:
            error.close()
            raise self._unusable(error) from error
        except (OSError, HTTPException, ValueError) as error:
            raise self._unusable(error.reason if isinstance(error, URLError) else error) from error

    def _unusable(self, reason: object) -> _Unusable:
        next_step = "check the address and the network, since the server does not start without its keys"
        return _Unusable(f"{self} cannot be fetched: {reason}", next_step)


class _SameOrigin(HTTPRedirectHandler):
    """Follows only redirects that stay with the server that the operator trusts."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if _origin(newurl) != _origin(req.full_url):
            raise HTTPError(req.full_url, code, f"it redirects to another server, {_origin(newurl)}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _safe_parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise StartupError(f"jwt-keys is not a valid URL: {error}; {ADVICE}") from error
    if "@" in parts.netloc or not host:
        raise StartupError(f"jwt-keys must have a host, and neither user name nor password; {ADVICE}")
    if parts.scheme == "http" and not _is_loopback(host):
        raise StartupError(
            f"jwt-keys http://{host} is not encrypted, so anybody on the way could replace the keys; use https"
        )
    return parts


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _age(headers: HTTPMessage) -> float:
    """Return the pause that the headers of an answer ask for, in seconds."""
    found = _MAX_AGE.search(",".join(headers.get_all("Cache-Control", [])))
    return min(max(float(found[1]), SHORTEST_AGE), LONGEST_AGE) if found else URL_SECONDS


def _whole(read: Callable[[int], bytes], source: str) -> bytes:
    """Return all that can be read, within the limits of time and size."""
    content, deadline = bytearray(), time.monotonic() + FETCH_SECONDS
    while chunk := read(64 * 1024):
        content += chunk
        if len(content) > LARGEST_DOCUMENT:
            raise _Unusable(f"{source} is larger than 1 MiB", ADVICE)
        if time.monotonic() > deadline:
            raise TimeoutError(f"it took longer than {FETCH_SECONDS:g} s")
    return bytes(content)


def _keys_of(content: bytes, source: str, *, may_be_empty: bool) -> list[_Key]:
    """Return the usable keys of a JWKS document; an empty list of keys withdraws them all, unless it comes first."""
    try:
        listed = json.loads(content)["keys"]
        if not isinstance(listed, list):
            raise TypeError("'keys' is no list")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _Unusable(f"{source} is not a JWKS document, an object with a list 'keys'", ADVICE) from error
    usable, skipped = [], []
    for each in listed:
        try:
            usable.append(_key_of(each))
        except ValueError as error:
            skipped.append(str(error))
    reasons = ", ".join(skipped[:_REASONS]) or "none skipped"
    if not listed and may_be_empty:
        log.error("jwt-keys %s holds no key any more, so no token is valid; publish one", source)
    elif not usable:
        raise _Unusable(f"{source} holds no usable key ({reasons})", ADVICE)
    log.info("jwt-keys %s: %d usable keys (%s)", source, len(usable), reasons)
    return usable


def _key_of(content: object) -> _Key:
    """Return a key; raise a ValueError that says why it is not usable, without the key itself."""
    if not isinstance(content, dict):
        raise ValueError("a key is not an object")
    jwk = {name: value for name, value in content.items() if value is not None}
    kid, named = jwk.get("kid"), f"key {quoted(str(jwk.get('kid', '')))}"
    kind = " ".join(str(jwk[name]) for name in ("kty", "crv") if name in jwk)
    algorithms = tuple(each for each in _ALGORITHMS.get(kind, ()) if jwk.get("alg", each) == each)
    if problem := _why_unfit(jwk, kind, algorithms):
        raise ValueError(f"{named} {problem}")
    try:
        public = jwt.PyJWK(jwk, algorithms[0]).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        # PyJWT quotes the key in some messages.
        raise ValueError(f"{named} is malformed") from None
    if kind == "RSA" and public.key_size < SMALLEST_RSA_BITS:
        raise ValueError(f"{named} has fewer than {SMALLEST_RSA_BITS} bits")
    named_parts = json.dumps(
        {name: jwk[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in jwk}, sort_keys=True
    )
    return _Key(kid, algorithms, public, hashlib.sha256(named_parts.encode()).hexdigest())


def _why_unfit(jwk: dict[str, Any], kind: str, algorithms: tuple[str, ...]) -> str | None:
    if not isinstance(jwk.get("kid", ""), str):
        return "is not named by text"
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return "is not for signatures"
    if kind not in _ALGORITHMS:
        return f"is of the type {quoted(kind)}, which has no accepted algorithm"
    if not algorithms:
        return f"is for {quoted(str(jwk['alg']))}, which is not an accepted algorithm of its type"
    if "d" in jwk:
        return "is a private key, which anybody who reads it can sign with"
    return None
