"""Readings for `statecast top`: what a server did between two scrapes of its metrics."""

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from statecast.service.scrape import Scrape

REQUESTS, SECONDS, PHASES = "statecast_requests_total", "statecast_request_seconds", "statecast_phase_seconds"
STARTED = "process_start_time_seconds"
REDIS_UP = "statecast_redis_up"
ENVOY_CONNECTIONS = "envoy_http_downstream_cx_active"


@dataclass(frozen=True)
class Kind:
    """The requests of one kind that were answered in the interval."""

    kind: str
    requests_per_second: float
    latency_p50_seconds: float
    latency_p99_seconds: float


@dataclass(frozen=True)
class Outcome:
    """The requests that were answered with one code, and reason if they failed."""

    code: str
    reason: str
    requests_per_second: float


@dataclass(frozen=True)
class Reading:
    """A server between two scrapes. Shares and quantiles without any value are NaN.

    Attributes:
        time: End of the interval.
        interval_seconds: Its length.
        has_restarted: True if the server was started in the interval.
        requests_per_second: Requests of all kinds.
        latency_p50_seconds: Median of the time from receiving a request to answering it.
        latency_p99_seconds: 99th percentile of that time.
        kinds: Requests by kind, the most frequent first.
        outcomes: Requests by code and reason, the most frequent first.
        observations_per_second: Time steps appended.
        batch_sessions: Mean number of sessions in a batch.
        queue_requests: Requests that wait now.
        queue_p99_seconds: 99th percentile of a request's wait.
        rejected_per_second: Requests refused for lack of room or time.
        cache_hit_rate: Share of a batch's sessions whose state was cached.
        cached_sessions: Sessions cached now.
        redis_usable: True if the server's last probe of Redis succeeded; None if the server does not report it.
        redis_volatile: True if Redis has settings that lose sessions.
        cpu_cores: CPU time of the server's process per second.
        memory_bytes: Its resident memory.
        envoy_connections: Connections of callers to Envoy; None without it.
    """

    time: str
    interval_seconds: float
    has_restarted: bool
    requests_per_second: float
    latency_p50_seconds: float
    latency_p99_seconds: float
    kinds: list[Kind]
    outcomes: list[Outcome]
    observations_per_second: float
    batch_sessions: float
    queue_requests: int
    queue_p99_seconds: float
    rejected_per_second: float
    cache_hit_rate: float
    cached_sessions: int
    redis_usable: bool | None
    redis_volatile: bool
    cpu_cores: float
    memory_bytes: int
    envoy_connections: int | None

    def as_json(self) -> dict[str, Any]:
        """Return the fields for JSON, in which NaN is null."""
        return {name: _without_nan(value) for name, value in asdict(self).items()}


def read(before: Scrape, now: Scrape, seconds: float) -> Reading:
    """Return what the server did between two scrapes, `seconds` apart."""
    has_restarted = before.total(STARTED) != now.total(STARTED)
    grown = now.since(Scrape() if has_restarted else before)
    hits, misses = grown.total("statecast_cache_hits_total"), grown.total("statecast_cache_misses_total")
    return Reading(
        time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        interval_seconds=round(seconds, 3),
        has_restarted=has_restarted,
        requests_per_second=grown.total(REQUESTS) / seconds,
        latency_p50_seconds=grown.quantile(SECONDS, 0.5),
        latency_p99_seconds=grown.quantile(SECONDS, 0.99),
        kinds=_kinds(grown, seconds),
        outcomes=_outcomes(grown, seconds),
        observations_per_second=grown.total("statecast_observations_total") / seconds,
        batch_sessions=_share(
            grown.total("statecast_batch_sessions_sum"), grown.total("statecast_batch_sessions_count")
        ),
        queue_requests=int(now.total("statecast_queue_requests")),
        queue_p99_seconds=grown.quantile(PHASES, 0.99, phase="queue"),
        rejected_per_second=grown.total("statecast_rejected_total") / seconds,
        cache_hit_rate=_share(hits, hits + misses),
        cached_sessions=int(now.total("statecast_cached_sessions")),
        redis_usable=now.total(REDIS_UP) > 0 if REDIS_UP in now else None,
        redis_volatile=now.total("statecast_redis_volatile") > 0,
        cpu_cores=grown.total("process_cpu_seconds_total") / seconds,
        memory_bytes=int(now.total("process_resident_memory_bytes")),
        envoy_connections=_envoy_connections(now),
    )


def _kinds(grown: Scrape, seconds: float) -> list[Kind]:
    counts = {kind: count for (kind,), count in grown.by(REQUESTS, "kind").items() if count > 0}
    return [
        Kind(kind, count / seconds, grown.quantile(SECONDS, 0.5, kind=kind), grown.quantile(SECONDS, 0.99, kind=kind))
        for kind, count in sorted(counts.items(), key=lambda item: -item[1])
    ]


def _outcomes(grown: Scrape, seconds: float) -> list[Outcome]:
    counts = {key: count for key, count in grown.by(REQUESTS, "code", "reason").items() if count > 0}
    return [
        Outcome(code, reason, count / seconds)
        for (code, reason), count in sorted(counts.items(), key=lambda item: -item[1])
    ]


def _envoy_connections(now: Scrape) -> int | None:
    if ENVOY_CONNECTIONS not in now:
        return None
    of_all = now.total(ENVOY_CONNECTIONS)
    return int(of_all - now.total(ENVOY_CONNECTIONS, envoy_http_conn_manager_prefix="admin"))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
