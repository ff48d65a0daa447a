"""Connections to Redis by URL: to one Redis, to a cluster, or to the primary that Sentinels name."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from statecast.service.errors import StartupError
from statecast.service.store.cluster import Cluster
from statecast.service.store.redis_url import RedisUrl, parse, redact, unreadable, with_tls
from statecast.service.store.sentinels import Sentinels, primary_client


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the authorities that vouch for Redis, and the client's certificate and its key."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def options(self) -> Mapping[str, str]:
        """Return redis-py's options.

        Raises:
            StartupError: if a file cannot be used.
        """
        if (self.cert is None) is not (self.key is None):
            raise StartupError("redis-cert and redis-key belong together; give both, or none")
        context = ssl.create_default_context()
        try:
            if self.ca:
                context.load_verify_locations(self.ca)
        except OSError as error:  # which ssl.SSLError is, too
            raise StartupError(f"redis-ca {self.ca} cannot be used: {error.strerror or error}") from error
        try:
            if self.cert and self.key:
                context.load_cert_chain(self.cert, self.key, "")
        except OSError as error:
            raise StartupError(
                f"redis-cert {self.cert} and redis-key {self.key} cannot be used: {error.strerror or error}"
            ) from error
        found = {"ssl_ca_certs": self.ca, "ssl_certfile": self.cert, "ssl_keyfile": self.key}
        return {option: str(path) for option, path in found.items() if path}


NO_FILES = TlsFiles()


def open_redis(
    url: str, timeout_seconds: float, password: str | None = None, files: TlsFiles = NO_FILES
) -> redis.Redis | Cluster:
    """Return the Redis or the cluster at a URL. Nothing is sent yet.

    Args:
        url: redis://, rediss:// or unix://; or redis or rediss with +cluster or +sentinel.
        timeout_seconds: Limit for connecting, and for each answer.
        password: Password, if the URL holds none.
        files: Files for TLS, if the URL names none.

    Raises:
        StartupError: if the URL is invalid, or a file cannot be used.
    """
    several = parse(url)
    options = dict(_options(url, timeout_seconds, password, files))
    if several is None:
        return _one(url, options)
    try:
        if several.kind == "cluster":
            return _cluster(several, options, timeout_seconds)
        return _primary(several, options)
    except (ValueError, TypeError) as error:  # its message may quote the password
        raise StartupError(unreadable(several.kind)) from error


def connect(url: str, timeout_seconds: float, password: str | None = None) -> redis.Redis:
    """Return a client of one Redis, as `open_redis` does; it never retries a command.

    Raises:
        StartupError: if the URL is invalid, or that of a cluster.
    """
    client = open_redis(url, timeout_seconds, password)
    if isinstance(client, Cluster):
        raise StartupError("redis-url is that of a cluster; give that of one Redis")
    return client


def _options(url: str, timeout_seconds: float, password: str | None, files: TlsFiles) -> Mapping[str, object]:
    options: dict[str, object] = {} if password is None else {"password": password}
    if files != NO_FILES:
        if not url.startswith(("rediss://", "rediss+")):
            raise StartupError(
                f"redis-ca, redis-cert and redis-key need TLS; let redis-url begin with {with_tls(url, wanted=True)}"
            )
        named = files.options()
        if twice := [option for option in named if f"{option}=" in url.partition("?")[2]]:
            raise StartupError(f"redis-url names {', '.join(twice)}, and so does an option; leave out one of the two")
        options.update(named)
    # A retried commit would conflict with itself.
    return {
        **options,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "statecast",
    }


def _one(url: str, options: Mapping[str, object]) -> redis.Redis:
    try:
        parts = urlsplit(url)
        if parts.scheme != "unix" and (
            parts.fragment or not re.fullmatch(r"(/\d*)?", parts.path) or not parts.hostname
        ):
            raise ValueError("the host or the database number is invalid")
        _check_passwords(parts.password, options)
        return _client(url, options)
    except (ValueError, TypeError) as error:  # its message may quote the password
        raise StartupError(unreadable()) from error


def _cluster(url: RedisUrl, options: Mapping[str, object], timeout_seconds: float) -> Cluster:
    _check_passwords(urlsplit(url.node(url.addresses[0])).password, options)
    _client(url.node(url.addresses[0]), options)
    return Cluster(url.addresses, lambda address: _client(url.node(address), options), timeout_seconds)


def _primary(url: RedisUrl, options: Mapping[str, object]) -> redis.Redis:
    _check_passwords(urlsplit(url.node(url.addresses[0])).password, options)
    own = {name: value for name, value in options.items() if name != "password"}
    sentinels = Sentinels([_client(url.sentinel(each), own) for each in url.addresses], url.name)
    client = primary_client(url.node(url.addresses[0]), options, sentinels)
    client.connection_pool.make_connection()
    return client


def _check_passwords(in_url: str | None, options: Mapping[str, object]) -> None:
    if in_url and "password" in options:
        raise StartupError(
            "redis-url holds a password, and --redis-password-file names another; leave out one of the two"
        )


def _client(url: str, options: Mapping[str, object]) -> redis.Redis:
    client = redis.Redis.from_url(url, **options)
    client.connection_pool.make_connection()  # only this checks the URL's options
    return client


def why_unusable(url: str, error: redis.RedisError) -> str:
    """Return a message for the operator: why Redis cannot be used, and how to fix that."""
    place, said = redact(url), str(error)
    secure, plain = with_tls(url, wanted=True), with_tls(url, wanted=False)
    if isinstance(error, AuthenticationError) or "NOAUTH" in said or "without any password" in said:
        if "WRONGPASS" in said or "invalid" in said:
            return f"Redis at {place} rejects this user and password; correct them in redis-url or the password file"
        if "without any password" in said or "no password is set" in said:
            return f"Redis at {place} has no password, but one was given; leave it out"
        return f"Redis at {place} requires a password; put it into redis-url, or a file for --redis-password-file"
    if "WRONG_VERSION_NUMBER" in said or "wrong version number" in said or "record layer failure" in said:
        return f"Redis at {place} does not use TLS; write {plain} instead of {secure}"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return (
            f"Redis at {place} has a certificate that is not trusted here ({said}); name its authority's file with "
            f"--redis-ca, or in redis-url, as in {secure}...?ssl_ca_certs=/path/to/ca.pem"
        )
    if "CERTIFICATE_REQUIRED" in said or "certificate required" in said:
        return f"Redis at {place} wants a client certificate; name its files with --redis-cert and --redis-key"
    if "EOF occurred in violation of protocol" in said:
        return (
            f"Redis at {place} ended the TLS connection ({said}); if it wants a client certificate, name its files "
            "with --redis-cert and --redis-key"
        )
    if "closed by server" in said or "reset by peer" in said:
        return f"Redis at {place} closed the connection; if it uses TLS, write {secure} instead of {plain}"
    hint = f"; if it does not use TLS, write {plain} instead of {secure}" if url.startswith("rediss") else ""
    return f"Redis at {place} cannot be reached: {said}{hint}"
