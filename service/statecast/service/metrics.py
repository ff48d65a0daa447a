"""Prometheus metrics. Labels name models and methods, never sessions."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from statecast.service.tenant_metrics import TenantMetrics
from statecast.v1.reasons import Reason

SECONDS = tuple(
    float(f"{digit}e{power}") for power in range(-4, 2) for digit in (1, 1.5, 2, 3, 5, 7)
)  # fmt: skip
SESSIONS = tuple(float(2**power) for power in range(13))
_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_MODEL = ("model", "model_version")


class Metrics:
    """All metrics of one server, in their own registry; `tenants` are those by tenant, None if there are none."""

    def __init__(self, most_tenants: int = 0) -> None:
        """Create all metrics; at most so many tenants get some of their own."""
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.tenants = TenantMetrics(registry, most_tenants) if most_tenants else None
        self._counter, self._gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._seconds = partial(Histogram, registry=registry, buckets=SECONDS)
        self._sessions = partial(Histogram, registry=registry, buckets=SESSIONS)
        self._count_rpcs()
        self._time_batches()
        self._count_sessions()
        self._watch_redis()
        self._watch_engine()

    def _count_rpcs(self) -> None:
        self.rpc_started = self._counter("grpc_server_started", "RPCs started on the server.", _METHOD)
        what = "RPCs completed on the server, by status code."
        self.rpc_handled = self._counter("grpc_server_handled", what, (*_METHOD, "grpc_code"))
        what = "Time from receiving an RPC to answering it, in seconds."
        self.rpc_seconds = self._seconds("grpc_server_handling_seconds", what, _METHOD)
        what = "Requests by kind, status code and reason; those in a frame or stream count one by one."
        self.requests = self._counter("statecast_requests", what, ("kind", "code", "reason"))
        what = "Time from receiving a request to answering it, in seconds."
        self.request_seconds = self._seconds("statecast_request_seconds", what, ("kind",))

    def _time_batches(self) -> None:
        what = "Time of a phase, in seconds: of one request in the queue, else of one batch."
        phases = self._seconds("statecast_phase_seconds", what, ("phase",))
        self.queue_seconds, self.load_seconds, self.advance_seconds, self.commit_seconds = (
            phases.labels(phase) for phase in ("queue", "load", "advance", "commit")
        )
        self.batch_sessions = self._sessions("statecast_batch_sessions", "Sessions in a batch.")

    def _count_sessions(self) -> None:
        self.observations = self._counter("statecast_observations", "Time steps appended to sessions.", _MODEL)
        what = "Values appended, by whether they lay inside a level's interval, as forecast one step before."
        self.interval_observations = self._counter(
            "statecast_interval_observations", what, (*_MODEL, "level", "inside")
        )
        self.forecasts = self._counter("statecast_forecasts", "Forecasts made.", _MODEL)
        self.sessions_opened = self._counter("statecast_sessions_opened", "Sessions opened.", _MODEL)
        self.upgrades = self._counter(
            "statecast_upgrades", "Sessions moved, by the model that they have come to.", _MODEL
        )
        what = "Sessions in Redis, when the server started, on a model version that it does not have."
        self.sessions_stranded = self._gauge("statecast_sessions_stranded", what, _MODEL)
        self.replayed = self._counter("statecast_replayed", "Repeated requests, answered without appending anything.")
        what = "Requests whose session had lost observations that it had acknowledged."
        self.regressed = self._counter("statecast_regressed", what)
        what = "Requests for sessions that their callers have seen but that left no trace: lost, or expired long ago."
        self.sessions_missing = self._counter("statecast_sessions_missing", what)
        self.conflicts = self._counter(
            "statecast_conflicts", "Commits refused because another replica had moved the session on."
        )
        self.rejected = self._counter("statecast_rejected", "Requests refused for lack of room or time.", ("reason",))

    def _watch_redis(self) -> None:
        self.cache_hits = self._counter("statecast_cache_hits", "Sessions of a batch whose state was cached.")
        self.cache_misses = self._counter("statecast_cache_misses", "Sessions of a batch that were read from Redis.")
        what = "1 if Redis may lose sessions, because it evicts keys or keeps no append-only file."
        self.redis_volatile = self._gauge("statecast_redis_volatile", what)
        what = "Time at which the server's TLS certificate expires, in seconds since 1970; 0 without TLS."
        self.certificate_expiry = self._gauge("statecast_tls_certificate_expiry_seconds", what)
        self.redis_up = self._gauge("statecast_redis_up", "1 if Redis answered the last probe and can be used.")
        what = "Time from a command to Redis until its answer, in seconds; one serves a whole batch."
        redis_seconds = self._seconds("statecast_redis_seconds", what, ("operation",))
        self.redis_load_seconds, self.redis_commit_seconds = (
            redis_seconds.labels(operation) for operation in ("load", "commit")
        )
        what = "Sessions read from Redis, by the model version that wrote them."
        self.sessions_read = self._counter("statecast_sessions_read", what, _MODEL)
        what = "Records in Redis that could not be used, by reason."
        self.records_refused = self._counter("statecast_records_refused", what, ("reason",))
        for reason in (Reason.RECORD_DAMAGED, Reason.MODEL_CHANGED):
            self.records_refused.labels(reason)

    def _watch_engine(self) -> None:
        what = "Time that the engine's threads have spent on batches, in seconds; of all threads together."
        self.engine_busy_seconds = self._counter("statecast_engine_busy_seconds", what)
        self.engine_threads = self._gauge("statecast_engine_threads", "Threads of the engine.")
        what = "How late the event loop is for an appointment, in seconds."
        self.loop_lag_seconds = self._seconds("statecast_event_loop_lag_seconds", what)
        self.kernels_ready = self._gauge("statecast_kernels_ready", "1 once models on the CPU use compiled kernels.")
        self.cached_sessions = self._gauge("statecast_cached_sessions", "Sessions whose state is cached.")
        self._queue_requests = self._gauge("statecast_queue_requests", "Requests that wait for a batch.")
        what = "A loaded model; always 1."
        self._model_info = self._gauge("statecast_model_info", what, (*_MODEL, "digest"))
        what = "A model version in the models folder that cannot be loaded; always 1."
        self._model_unavailable = self._gauge("statecast_model_unavailable", what, _MODEL)

    def watch_queue(self, queued_requests: Callable[[], int]) -> None:
        """Report the queue's length at the time of each scrape."""
        self._queue_requests.set_function(queued_requests)

    def add_model(self, name: str, version: str, digest: str) -> None:
        """Report a model as loaded; none of its sessions has been read yet."""
        self._model_info.labels(name, version, digest).set(1)
        self.sessions_read.labels(name, version)

    def show_broken_models(self, broken: Iterable[tuple[str, str]]) -> None:
        """Report the model versions that cannot be loaded."""
        self._model_unavailable.clear()
        for name, version in broken:
            self._model_unavailable.labels(name, version).set(1)


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observe the duration of the block, even if it fails."""
    start = time.perf_counter()
    try:
        yield
    finally:
        histogram.observe(time.perf_counter() - start)


def observe_all(histogram: Histogram, values: Mapping[float, int]) -> None:
    """Observe values, none of them NaN, each so many times at once: the totals are those of `observe` for each."""
    bounds, buckets = histogram._upper_bounds, histogram._buckets
    counts: dict[int, int] = {}
    for value, count in values.items():
        place = bisect_left(bounds, value)
        counts[place] = counts.get(place, 0) + count
    for place, count in counts.items():
        buckets[place].inc(count)
    histogram._sum.inc(sum([value * count for value, count in values.items()]))
