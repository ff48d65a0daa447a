"""JSON Web Key Sets: the public keys with which an identity provider's tokens are checked, from a file or a URL."""

import asyncio
import hashlib
import ipaddress
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from statecast.service.errors import StartupError, quoted

log = logging.getLogger(__name__)

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

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_REASONS = 3
"""Skipped keys that a message lists."""


class Unusable(Exception):
    """Keys cannot be used: the problem names them and says why."""

    def __init__(self, problem: str, next_step: str) -> None:
        super().__init__(f"{problem}; {next_step}")
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Key:
    """A public key: its name, the algorithms it may be used with, the key itself and a digest of it."""

    kid: str | None
    algorithms: tuple[str, ...]
    public: Any
    digest: str


class Keys:
    """The usable keys of a document, and the pause until it is to be read again."""

    def __init__(self, source: str) -> None:
        """Take the path or URL of the document.

        Raises:
            StartupError: if the URL is not safe.
        """
        self._source = _Url(source) if source.lower().startswith(("http://", "https://")) else _File(source)
        self._content: bytes | None = None
        self.usable: list[Key] = []
        self.shortest_pause_seconds, self._retry_seconds = self._source.pauses
        self.pause_seconds = self.shortest_pause_seconds

    async def update(self) -> bool:
        """Read the document; return whether it has changed.

        Raises:
            Unusable: if it cannot be used; the keys from before stay.
        """
        self.pause_seconds = self._retry_seconds
        content, pause_seconds = await asyncio.to_thread(self._source.read)
        has_changed = content != self._content
        if has_changed:
            is_later = self._content is not None
            self.usable = await asyncio.to_thread(keys_of, content, str(self._source), may_be_empty=is_later)
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
            raise Unusable(f"{self} cannot be read: {error.strerror or error}", ADVICE) from error


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

    def _unusable(self, reason: object) -> Unusable:
        next_step = "check the address and the network, since the server does not start without its keys"
        return Unusable(f"{self} cannot be fetched: {reason}", next_step)


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
            raise Unusable(f"{source} is larger than 1 MiB", ADVICE)
        if time.monotonic() > deadline:
            raise TimeoutError(f"it took longer than {FETCH_SECONDS:g} s")
    return bytes(content)


def keys_of(content: bytes, source: str, *, may_be_empty: bool) -> list[Key]:
    """Return the usable keys of a JWKS document; an empty list of keys withdraws them all, unless it comes first."""
    try:
        listed = json.loads(content)["keys"]
        if not isinstance(listed, list):
            raise TypeError("'keys' is no list")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Unusable(f"{source} is not a JWKS document, an object with a list 'keys'", ADVICE) from error
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
        raise Unusable(f"{source} holds no usable key ({reasons})", ADVICE)
    log.info("jwt-keys %s: %d usable keys (%s)", source, len(usable), reasons)
    return usable


def _key_of(content: object) -> Key:
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
    return Key(kid, algorithms, public, hashlib.sha256(named_parts.encode()).hexdigest())


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
