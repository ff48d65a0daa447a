"""Connections to Redis by URL. The URL may hold a password, so it must not be shown."""

import re
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from statecast.service.errors import StartupError

_SCHEMES = ("redis", "rediss", "unix")
_PLACE = re.compile(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?")
_UNREADABLE = (
    "redis-url is not valid. It should look like redis://user:password@host:6379/0, with special characters in the "
    "password percent-encoded (# as %23, / as %2F, ? as %3F, @ as %40, : as %3A). Or leave the password out and put it "
    "into a file for --redis-password-file"
)


def connect(url: str, timeout_seconds: float, password: str | None = None) -> redis.Redis:
    """Return a synchronous client that never retries a command: a retried commit would conflict with itself.

    Args:
        url: redis://, rediss:// or unix://.
        timeout_seconds: Limit for connecting, and for each answer.
        password: Password, if the URL holds none.

    Raises:
        StartupError: if the URL is invalid.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        meant = f"; for a Redis at {url}, write redis://{url}" if _PLACE.fullmatch(url) else ""
        raise StartupError(f"redis-url must begin with redis://, rediss:// (TLS) or unix://{meant}")
    options = {} if password is None else {"password": password}
    try:
        parts = urlsplit(url)
        if scheme != "unix" and (parts.fragment or not re.fullmatch(r"(/\d*)?", parts.path) or not parts.hostname):
            raise ValueError("the host or the database number is invalid")
        if password is not None and parts.password:
            raise StartupError(
                "redis-url holds a password, and --redis-password-file names another; leave out one of the two"
            )
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            client_name="statecast",
            **options,
        )
        client.connection_pool.make_connection()  # only this checks the URL's options
    except (ValueError, TypeError) as error:  # its message may quote the password
        raise StartupError(_UNREADABLE) from error
    return client


def redact(url: str) -> str:
    """Return the URL without its password and its options, which may hold one."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{'***@' if at else ''}{place}"


def why_unusable(url: str, error: redis.RedisError) -> str:
    """Return a message for the operator: why Redis cannot be used, and how to fix that."""
    place, said = redact(url), str(error)
    if isinstance(error, AuthenticationError) or "NOAUTH" in said or "without any password" in said:
        if "WRONGPASS" in said or "invalid" in said:
            return f"Redis at {place} rejects this user and password; correct them in redis-url or the password file"
        if "without any password" in said or "no password is set" in said:
            return f"Redis at {place} has no password, but one was given; leave it out"
        return f"Redis at {place} requires a password; put it into redis-url, or a file for --redis-password-file"
    if "WRONG_VERSION_NUMBER" in said or "wrong version number" in said or "record layer failure" in said:
        return f"Redis at {place} does not use TLS; write redis:// instead of rediss://"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return (
            f"Redis at {place} has a certificate that is not trusted here ({said}); add its authority to redis-url, "
            "as in rediss://...?ssl_ca_certs=/path/to/ca.pem"
        )
    if "closed by server" in said or "reset by peer" in said:
        return f"Redis at {place} closed the connection; if it uses TLS, write rediss:// instead of redis://"
    hint = "; if it does not use TLS, write redis:// instead of rediss://" if url.startswith("rediss://") else ""
    return f"Redis at {place} cannot be reached: {said}{hint}"
