"""Limits for each tenant in one server process: a TOML file with a table for each, and one for all others."""

import dataclasses
import logging
import math
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statecast.service.access.principal import TENANT
from statecast.service.errors import Overloaded, StartupError
from statecast.v1.reasons import Reason

log = logging.getLogger(__name__)

OTHERS = "others"
"""The table for tenants without one of their own."""
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one tenant; infinity for none.

    Attributes:
        requests_per_second: Requests, on average; a second's worth may come at once.
        observations_per_second: Values appended, on average; a request is never split, and its excess is waited for.
        queue_mib: Approximate memory for queued requests and their answers, in MiB.
        streams: Open ForecastStream calls.
        sessions: Sessions, approximately.
    """

    requests_per_second: float = math.inf
    observations_per_second: float = math.inf
    queue_mib: float = math.inf
    streams: float = math.inf
    sessions: float = math.inf


NO_LIMITS = Quota()
LIMITS = tuple(field.name for field in dataclasses.fields(Quota))


class Bucket:
    """A token bucket that holds a second's worth; one that is full may be overdrawn."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate, self._most = rate, max(1.0, rate)
        self._tokens, self._at = self._most, now

    def wait_seconds(self, tokens: float, now: float) -> float:
        """Return the time until so many tokens may be taken; 0 if they may now."""
        self._tokens = min(self._most, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return max(0.0, min(tokens, self._most) - self._tokens) / self.rate

    def take(self, tokens: float) -> None:
        """Take so many tokens."""
        self._tokens -= tokens


class Quotas:
    """The limits of all tenants, and what each has used. Not thread-safe, but for `sessions_are_full`."""

    def __init__(self, path: Path | None = None) -> None:
        """Read the file; without one there are no limits.

        Raises:
            StartupError: if it cannot be used.
        """
        self._path = path
        self._content = b""
        self._quotas: dict[str, Quota] = {}
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._sessions: Counter[str] = Counter()
        self._problem = ""
        self.is_active = path is not None
        if path is not None:
            self._content = _read(path)
            self._quotas = parse_quotas(self._content, path)

    def of(self, tenant: str) -> Quota:
        """Return the limits of a tenant."""
        return self._quotas.get(tenant) or self._quotas.get(OTHERS, NO_LIMITS)

    @property
    def tenants(self) -> list[str]:
        """The tenants with a table of their own, in the file's order."""
        return [tenant for tenant in self._quotas if tenant != OTHERS]

    def queue_bytes(self, tenant: str) -> float:
        """Return the limit to the memory of a tenant's queued requests."""
        return self.of(tenant).queue_mib * MIB

    def take(self, tenant: str, observations: int) -> None:
        """Count a request that appends so many values.

        Raises:
            Overloaded: if one of the tenant's limits is reached; the request does not count then.
        """
        now, quota = time.monotonic(), self.of(tenant)
        costs = (("requests_per_second", 1), ("observations_per_second", observations))
        buckets = [
            (name, self._bucket(tenant, name, now), cost)
            for name, cost in costs
            if cost and getattr(quota, name) < math.inf
        ]
        for name, bucket, cost in buckets:
            if wait_seconds := bucket.wait_seconds(cost, now):
                raise exceeded(tenant, name, bucket.rate, wait_seconds)
        for _, bucket, cost in buckets:
            bucket.take(cost)

    def limited_sessions(self) -> list[str]:
        """Return the tenants whose sessions are limited and that have been seen."""
        return [tenant for tenant in self._sessions if self.of(tenant).sessions < math.inf]

    def opened(self, tenant: str) -> None:
        """Count a session that was opened."""
        self._sessions[tenant] += 1

    def counted(self, tenant: str, sessions: int) -> None:
        """Set the number of a tenant's sessions."""
        self._sessions[tenant] = sessions

    def sessions_are_full(self, tenant: str) -> bool:
        """Return whether a tenant may open no more sessions; note that it has been seen."""
        most = self.of(tenant).sessions
        return most < math.inf and self._sessions.setdefault(tenant, 0) >= most

    def look(self) -> None:
        """Read the file again if it has changed; one that cannot be used leaves the limits from before."""
        if self._path is None:
            return
        try:
            content = _read(self._path)
            if content == self._content:
                return
            self._content = content
            self._quotas = parse_quotas(content, self._path)
        except StartupError as error:
            if str(error) != self._problem:
                log.warning("%s; the limits from before are kept", error)
            self._problem = str(error)
            return
        self._problem = ""
        self._buckets.clear()
        log.info("tenant-limits: %s was read again", self._path)

    def _bucket(self, tenant: str, name: str, now: float) -> Bucket:
        bucket = self._buckets.get((tenant, name))
        if bucket is None:
            bucket = self._buckets[tenant, name] = Bucket(getattr(self.of(tenant), name), now)
        return bucket


def exceeded(tenant: str, name: str, limit: float, wait_seconds: float) -> Overloaded:
    """Return the error for a tenant that has reached a limit."""
    return Overloaded(
        f"tenant {tenant} has reached its limit {name} = {limit:g}; nothing was appended. Send the same request again "
        "later, or ask the server's operator for more",
        Reason.QUOTA_EXCEEDED,
        wait_seconds,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartupError(f"tenant-limits {path} cannot be read: {error.strerror}") from error


def parse_quotas(content: bytes, path: Path) -> dict[str, Quota]:
    """Return the limits by tenant in a file's content.

    Raises:
        StartupError: if they are not valid; the message names the table and the limit.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(content.decode())
    except ValueError as error:
        raise StartupError(f"tenant-limits {path} is not TOML: {error}") from error
    return {tenant: _quota(tenant, table, f"tenant-limits {path}: [{tenant}]") for tenant, table in tables.items()}


def _quota(tenant: str, table: Any, where: str) -> Quota:
    if not TENANT.fullmatch(tenant) or not isinstance(table, dict):
        raise StartupError(f"{where} is not a table named after a tenant, or [{OTHERS}] for all without one")
    for name, value in table.items():
        if name not in LIMITS:
            raise StartupError(f"{where} {name} is not a limit; the limits are {', '.join(LIMITS)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise StartupError(f"{where} {name} = {value!r} is not a number above 0; leave it out for no limit")
    return Quota(**table)
