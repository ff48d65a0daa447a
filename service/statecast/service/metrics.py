"""What Prometheus sees. Labels name models and methods, never sessions."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from statecast.service.errors import StartupError
from statecast.service.registry import Model

SECONDS = tuple(
    float(f"{digit}e{power}") for power in range(-4, 2) for digit in (1, 1.5, 2, 3, 5, 7)
)  # fmt: skip
SESSIONS = tuple(float(2**power) for power in range(13))
_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_MODEL = ("model", "model_version")


class Metrics:
    """All instruments of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.rpc_started = Counter("grpc_server_started", "RPCs started on the server.", _METHOD, registry=registry)
        self.rpc_handled = Counter(
            "grpc_server_handled", "RPCs completed on the server, by status code.", (*_METHOD, "grpc_code"),
            registry=registry,
        )  # fmt: skip
        self.rpc_seconds = Histogram(
            "grpc_server_handling_seconds", "Time from receiving an RPC to answering it, in seconds.", _METHOD,
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._phase_seconds = Histogram(
            "statecast_phase_seconds", "Time of one phase: queue a request, the others a batch, in seconds.",
            ("phase",), buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.queue_seconds, self.load_seconds, self.advance_seconds, self.commit_seconds = (
            self._phase_seconds.labels(phase) for phase in ("queue", "load", "advance", "commit")
        )
        self.batch_sessions = Histogram(
            "statecast_batch_sessions", "Sessions in a batch.", buckets=SESSIONS, registry=registry
        )
        self.observations = Counter(
            "statecast_observations", "Time steps appended to sessions.", _MODEL, registry=registry
        )
        self.interval_observations = Counter(
            "statecast_interval_observations",
            "Values appended, by whether they lay inside the interval of a level that was forecast one step before.",
            (*_MODEL, "level", "inside"),
            registry=registry,
        )
        self.forecasts = Counter("statecast_forecasts", "Forecasts made.", _MODEL, registry=registry)
        self.sessions_opened = Counter("statecast_sessions_opened", "Sessions opened.", _MODEL, registry=registry)
        self.replayed = Counter(
            "statecast_replayed",
            "Requests answered as repetitions of an earlier one.",
            registry=registry,
        )
        self.regressed = Counter(
            "statecast_regressed",
            "Requests whose session had lost what their caller was told that it had taken.",
            registry=registry,
        )
        self.conflicts = Counter(
            "statecast_conflicts",
            "Commits that met a session moved on by another replica.",
            registry=registry,
        )
        self.cache_hits = Counter(
            "statecast_cache_hits",
            "Sessions of a batch whose state was in memory.",
            registry=registry,
        )
        self.cache_misses = Counter(
            "statecast_cache_misses",
            "Sessions of a batch that were read from Redis.",
            registry=registry,
        )
        self.rejected = Counter(
            "statecast_rejected",
            "Requests not taken for lack of room.",
            ("reason",),
            registry=registry,
        )
        self._queue_requests = Gauge("statecast_queue_requests", "Requests that wait for a batch.", registry=registry)
        self.cached_sessions = Gauge(
            "statecast_cached_sessions", "Sessions whose state is in memory.", registry=registry
        )
        self._model_info = Gauge(
            "statecast_model_info",
            "A model that is loaded; always 1.",
            (*_MODEL, "digest"),
            registry=registry,
        )

    def watch_queue(self, queued_requests: Callable[[], int]) -> None:
        """Show the queue's length as it is when asked."""
        self._queue_requests.set_function(queued_requests)

    def add_model(self, model: Model) -> None:
        """Show that the model is loaded."""
        self._model_info.labels(model.config.name, model.config.version, model.digest).set(1)


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observe how long the block takes, also when it fails."""
    start = time.perf_counter()
    try:
        yield
    finally:
        histogram.observe(time.perf_counter() - start)


def expose(metrics: Metrics, host: str, port: int) -> tuple[int, Callable[[], None]]:
    """Serve /metrics; the port, and how to stop.

    Raises:
        StartupError: if the port cannot be had.
    """
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise StartupError(f"metrics-port {port} on {host} cannot be had: {error.strerror or error}") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return server.server_port, stop
