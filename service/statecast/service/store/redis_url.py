"""URLs of Redis: one Redis, a cluster, or a primary that Sentinels name. They may hold a password: do not show them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from statecast.service.errors import StartupError

REDIS_PORT, SENTINEL_PORT = 6379, 26379
_ALONE = ("redis", "rediss", "unix")
_PLACE = re.compile(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?")
_ADDRESS = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\])(:(?P<port>\d{1,5}))?")
_ENCODING = (
    "with special characters in the password percent-encoded (# as %23, / as %2F, ? as %3F, @ as %40, : as %3A). Or "
    "leave the password out and put it into a file for --redis-password-file"
)
_EXAMPLES = {
    "": "redis://user:password@host:6379/0",
    "cluster": "redis+cluster://user:password@host:6379,other-host:6379",
    "sentinel": "redis+sentinel://user:password@host:26379,other-host:26379/name-of-the-primary",
}
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


class Address(NamedTuple):
    """Host and port of a Redis or a Sentinel."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A URL of several addresses, in parts.

    Attributes:
        kind: "cluster" or "sentinel".
        scheme: "redis", or "rediss" with TLS.
        addresses: Some nodes of the cluster, or the Sentinels.
        name: Name by which Sentinels know the primary.
        node: Makes the URL of one Redis from its address.
        sentinel: Makes the URL of a Sentinel from its address.
    """

    kind: str
    scheme: str
    addresses: tuple[Address, ...]
    name: str = ""
    node: Callable[[Address], str] = field(default=str, repr=False)
    sentinel: Callable[[Address], str] = field(default=str, repr=False)


def parse(url: str) -> RedisUrl | None:
    """Return the parts of a URL of several addresses; None if it is that of one Redis.

    Raises:
        StartupError: if the URL is invalid.
    """
    scheme, separator, _ = url.partition("://")
    base, _, kind = scheme.partition("+")
    if separator and scheme in _ALONE:
        return None
    if not separator or base not in ("redis", "rediss") or kind not in ("cluster", "sentinel"):
        meant = f"; for a Redis at {url}, write redis://{url}" if _PLACE.fullmatch(url) else ""
        raise StartupError(
            "redis-url must begin with redis://, rediss:// (TLS) or unix://, with redis+cluster:// or "
            f"rediss+cluster:// for a cluster, or with redis+sentinel:// or rediss+sentinel:// for Sentinels{meant}"
        )
    try:
        return _several(url, base, kind)
    except ValueError as error:  # its message may quote the password
        raise StartupError(unreadable(kind)) from error


def unreadable(kind: str = "") -> str:
    """Return the error for a URL that cannot be read, which does not quote it."""
    return f"redis-url is not valid. It should look like {_EXAMPLES[kind]}, {_ENCODING}"


def with_tls(url: str, *, wanted: bool) -> str:
    """Return the beginning of a URL of the same kind with or without TLS, to show."""
    base, plus, kind = url.partition("://")[0].partition("+")
    return f"{'rediss' if wanted and base != 'unix' else 'redis'}{plus}{kind}://"


def redact(url: str) -> str:
    """Return the URL without its password and its options, which may hold one."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{'***@' if at else ''}{place}"


def _several(url: str, base: str, kind: str) -> RedisUrl:
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    usual = REDIS_PORT if kind == "cluster" else SENTINEL_PORT
    addresses = tuple(_address(each, usual) for each in hosts.split(","))
    name, _, database = parts.path.removeprefix("/").partition("/")
    if kind == "cluster" and (name not in ("", "0") or database):
        raise StartupError("redis-url names a database, but a cluster has none; leave out what follows the addresses")
    if kind == "sentinel" and not name:
        raise StartupError(f"redis-url lacks the name of the primary; write it as in {_EXAMPLES[kind]}")
    if parts.fragment or not re.fullmatch(r"\d*", database):
        raise ValueError("there is a fragment, or the number of the database is none")
    options = {name: each[-1] for name, each in parse_qs(parts.query, keep_blank_values=True).items()}
    own_user, own_password = (quote(options.pop(each, ""), safe="") for each in _SENTINEL_OPTIONS)
    own = f"{own_user}:{own_password}@" if own_user or own_password else ""
    shared = urlencode(options)
    query = f"?{shared}" if shared else ""
    return RedisUrl(
        kind, base, addresses, "" if kind == "cluster" else name,
        lambda each: f"{base}://{user}{at}{each}/{database}{query}",
        lambda each: f"{base}://{own}{each}{query}",
    )  # fmt: skip


def _address(text: str, usual_port: int) -> Address:
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"] or usual_port) < 65_536:
        raise ValueError("an address is invalid")
    return Address(found["host"].strip("[]"), int(found["port"] or usual_port))
