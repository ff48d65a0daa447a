"""Starts and stops the server: models, Redis, engine and gRPC, stopped in reverse order."""

import asyncio
import json
import logging
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import psutil
import torch

from statecast.oip import inference_service_pb2
from statecast.oip.inference_service_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from statecast.service import gc_tuning, signals
from statecast.service.access.certificates import Certificates, CertificateWatch
from statecast.service.access.gate import Gate
from statecast.service.access.opening import Access, certificates, warn_if_exposed
from statecast.service.access.quotas import Quotas
from statecast.service.engine.engine import Engine
from statecast.service.engine.plan import Planner
from statecast.service.engine.scheduler import BatchLimits, Scheduler
from statecast.service.engine.session_cache import SessionCache
from statecast.service.engine.threads import EngineThreads
from statecast.service.engine.transfer import Transfer
from statecast.service.errors import EngineStopped, ServiceError, StartupError
from statecast.service.metrics import Metrics
from statecast.service.metrics_endpoint import MetricsEndpoint
from statecast.service.models.kernels import Kernels
from statecast.service.models.registry import Registry, load_registry
from statecast.service.models.watcher import Watcher
from statecast.service.page import opening as page
from statecast.service.rpc.accounting import Accounts
from statecast.service.rpc.admin_service import AdminService
from statecast.service.rpc.engine_client import EngineClient
from statecast.service.rpc.forecast_service import ForecastService
from statecast.service.rpc.inference_service import InferenceService
from statecast.service.rpc.methods import Method, Methods
from statecast.service.rpc.model_management import ModelManagement
from statecast.service.rpc.model_service import ModelService
from statecast.service.rpc.request_log import RequestLog
from statecast.service.rpc.streams import Streams
from statecast.service.rpc.tensor_names import TensorNames
from statecast.service.rpc.transfers import Transfers
from statecast.service.settings import Settings
from statecast.service.shared.watch import SharedWatch
from statecast.service.store.catalog import Catalog
from statecast.service.store.monitor import Monitor
from statecast.service.store.redis_store import Store
from statecast.service.stores import Kept, open_stores
from statecast.service.tracing import setup
from statecast.service.transport.grpcio import GrpcioTransport
from statecast.service.transport.place import Place
from statecast.service.transport.standard import Standard
from statecast.v1 import admin_service_pb2, forecast_service_pb2, model_service_pb2
from statecast.v1.admin_service_pb2_grpc import add_AdminServiceServicer_to_server
from statecast.v1.forecast_service_pb2_grpc import add_ForecastServiceServicer_to_server
from statecast.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server

if TYPE_CHECKING:  # an optional extra
    from statecast.service.tracing.spans import Spans

log = logging.getLogger(__name__)

ENGINE_STOP_SECONDS = 10.0
MIB = 1024 * 1024
LAG_SECONDS = 0.5
"""How often the event loop's lag is measured."""
COUNT_SECONDS, COUNT_LOOK_SECONDS = 300.0, 1.0
"""How often the sessions of a tenant are counted, and how soon after it is first seen."""
READ_SECONDS = 5.0
"""Longest wait of a reader of the metrics for the event loop, which checks its credential."""
SERVICES = (
    forecast_service_pb2.DESCRIPTOR.services_by_name["ForecastService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name,
    inference_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
)


class LoadModels(Protocol):
    """Loads the models to serve, given the models folder, the default model's name and the device."""

    def __call__(self, folder: Path | None, default: str, device: torch.device, *, require_all: bool) -> Registry:
        """Load every model, or unless `require_all` as many as can be loaded."""


class Transport(Protocol):
    """Carries calls to the methods."""

    async def start(self) -> int:
        """Start answering calls; return the port."""

    def renew(self, certificates: Certificates) -> None:
        """Show these certificates to new connections."""

    async def stop(self, grace_seconds: float) -> None:
        """Accept no more calls, and let those in flight finish within the grace period."""


MakeTransport = Callable[[Settings, Mapping[str, Method], Certificates | None], Transport]


def grpcio(settings: Settings, methods: Mapping[str, Method], certificates: Certificates | None) -> Transport:
    """Return a gRPC server in this process."""
    place = Place(settings.host, settings.port)
    return GrpcioTransport(place, methods, settings.max_message_mib * MIB, certificates)


async def run(settings: Settings, load_models: LoadModels = load_registry) -> None:
    """Serve until SIGTERM, SIGINT or a failure of the engine; a second signal ends the process at once.

    Raises:
        StartupError: if the server cannot start.
        EngineStopped: if the engine failed.
    """
    stop = asyncio.Event()

    with signals.stopping(stop):
        async with serving(settings, load_models) as running:
            gc_tuning.look_seldom()
            waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait()), running.engine]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            waits[0].cancel()
            engine_stopped = running.engine.done()
            await running.drain(settings)
            if engine_stopped:
                running.raise_engine_stopped()
    log.info("stopped")


@dataclass(frozen=True)
class Running:
    """A running server: its ports, and the parts that a shutdown needs."""

    port: int
    metrics_port: int
    metrics: Metrics
    standard: Standard
    transport: Transport
    streams: Streams
    transfers: Transfers
    engine: "asyncio.Future[None]"

    def raise_engine_stopped(self) -> NoReturn:
        """Raise the error for an engine that ended by itself."""
        raise EngineStopped("the engine has stopped unexpectedly") from self.engine.exception()

    async def drain(self, settings: Settings) -> None:
        """Report NOT_SERVING, give load balancers a moment, then let the calls in flight finish."""
        log.info("shutting down")
        self.standard.leave()
        await asyncio.sleep(settings.drain_seconds)
        self.streams.leave()
        self.transfers.leave()
        self.standard.end()
        await self.transport.stop(settings.grace_seconds)


@asynccontextmanager
async def serving(
    settings: Settings, load_models: LoadModels = load_registry, make_transport: MakeTransport = grpcio
) -> AsyncIterator[Running]:
    """Start a server, and stop its parts in reverse order at the end, or if the start fails half-way."""
    async with AsyncExitStack() as stack:
        found, access = certificates(settings), Access(settings)
        page.check(settings)
        warn_if_exposed(settings, access.gate)
        await access.load()
        metrics, request_log = Metrics(settings.tenant_metrics), RequestLog(settings.slow_request_seconds)
        tracing = setup.from_environment()
        if tracing is not None:
            stack.push_async_callback(tracing.stop, settings.grace_seconds)
        spans = tracing.spans if tracing else None
        stack.callback(request_log.close)
        accounts, tensor_names = Accounts(metrics, request_log), TensorNames(settings.tensor_names)
        registry = _models(settings, load_models, metrics)
        standard, is_listening = Standard(SERVICES, access.gate, accounts), threading.Event()
        endpoint = MetricsEndpoint(
            metrics.registry, settings.metrics_host, settings.metrics_port, found,
            _readers(access.gate), lambda: is_listening.is_set() and standard.is_ready,
        )  # fmt: skip
        endpoint.start()
        stack.callback(endpoint.stop)
        await _start_kernels(settings, registry, metrics, stack)
        _watch_models(settings, registry, metrics, stack)
        kept = stack.enter_context(open_stores(settings))
        management = _share_models(kept, registry, metrics, stack)
        scheduler = Scheduler(_limits(settings), access.quotas.queue_bytes)
        metrics.watch_queue(lambda: scheduler.queued_requests)
        engine_client = EngineClient(scheduler, metrics, accounts, access.quotas)
        engines = _engines(settings, registry, kept.stores, metrics)
        engine = _start_engines(engines, scheduler, metrics, engine_client, spans, stack)
        streams = Streams(settings.max_streams, settings.queue_mib * MIB, access.gate, access.quotas)
        transfers, transfer = Transfers(access.gate, access.quotas), Transfer(kept.transfer_store, registry)
        stack.callback(transfers.close)
        if metrics.tenants is not None:
            metrics.tenants.name(access.quotas.tenants)
            metrics.tenants.watch(scheduler.queued_bytes, streams.open_by_tenant)
        methods = Methods(metrics, accounts, access.gate, spans)
        _add_services(methods, ForecastService(engine_client, streams, kept.catalog), ModelService(registry))
        inferences = InferenceService(
            engine_client, streams, registry, tensor_names, lambda: standard.is_ready, settings.session_ttl_seconds
        )
        add_GRPCInferenceServiceServicer_to_server(inferences, methods)  # type: ignore[arg-type]
        admin = AdminService(transfers, transfer, accounts, management)
        add_AdminServiceServicer_to_server(admin, methods)  # type: ignore[arg-type]
        transport = make_transport(settings, {**methods.by_path, **standard.methods}, found)
        stack.push_async_callback(transport.stop, 0.0)
        stack.callback(standard.end)
        looks = [streams.look, transfers.look]
        if settings.page:
            looks.append(page.open_page(settings, access, kept, registry, endpoint, stack))
        running = Running(
            await transport.start(), endpoint.port, metrics, standard, transport, streams, transfers, engine
        )
        is_listening.set()
        for task in (
            _monitor(kept, settings, metrics, standard).run(),
            access.look_after(*looks),
            _count_sessions(access.quotas, kept.catalog),
            _watch_loop(metrics),
            *_certificate_watch(settings, found, metrics, (transport, endpoint)),
        ):
            stack.push_async_callback(_end, asyncio.ensure_future(task))
        _announce(settings, running, registry, stack)
        yield running


async def _start_kernels(settings: Settings, registry: Registry, metrics: Metrics, stack: AsyncExitStack) -> None:
    kernels = Kernels(registry, metrics, settings.kernels, settings.kernel_cache, settings.models)
    stack.callback(kernels.stop)
    await asyncio.to_thread(kernels.start)  # it takes seconds, in which the metrics can be read


def _share_models(kept: Kept, registry: Registry, metrics: Metrics, stack: AsyncExitStack) -> ModelManagement:
    """Go by the policies that all servers share; return what changes them.

    Raises:
        StartupError: if they cannot be read.
    """
    watched, counted, managed = kept.shared_stores
    watch, management = SharedWatch(watched, counted, registry, metrics), ModelManagement(managed, registry)
    stack.callback(management.close)
    stack.callback(watch.stop)
    try:
        watch.start()
    except ServiceError as error:
        raise StartupError(str(error)) from error
    return management


def _watch_models(settings: Settings, registry: Registry, metrics: Metrics, stack: AsyncExitStack) -> None:
    """Follow the models folder, unless the settings say otherwise."""
    if settings.models and settings.models_poll_seconds:
        watcher = Watcher(settings.models, registry, metrics, _device(settings), settings.models_poll_seconds)
        watcher.start()
        stack.push_async_callback(watcher.stop)


def _start_engines(
    engines: list[Engine],
    scheduler: Scheduler,
    metrics: Metrics,
    engine_client: EngineClient,
    spans: "Spans | None",
    stack: AsyncExitStack,
) -> "asyncio.Future[None]":
    """Start a thread for each engine; return a future that is done once they have ended, or one has failed."""
    threads = EngineThreads(scheduler, engines, metrics, engine_client.deliver, spans.observe if spans else None)
    engine = asyncio.ensure_future(_all(threads.start()))
    stack.push_async_callback(_stop_engine, scheduler, engine)
    return engine


def _add_services(methods: Methods, forecasts: ForecastService, models: ModelService) -> None:
    add_ForecastServiceServicer_to_server(forecasts, methods)  # type: ignore[arg-type]  # it takes them as servers do
    add_ModelServiceServicer_to_server(models, methods)  # type: ignore[arg-type]


def _models(settings: Settings, load_models: LoadModels, metrics: Metrics) -> Registry:
    """Load the models, and show them in the metrics."""
    device, require_all = _device(settings), settings.require_all_models
    registry = load_models(settings.models, settings.default_model, device, require_all=require_all)
    metrics.show_broken_models(registry.broken)
    for model in registry:
        metrics.add_model(model.config.name, model.config.version, model.digest)
    return registry


def _certificate_watch(
    settings: Settings, found: Certificates | None, metrics: Metrics, parts: "Sequence[Transport | MetricsEndpoint]"
) -> Iterator[Coroutine[Any, Any, None]]:
    """Yield the task that renews the certificates of these parts, if there are any."""
    if found is None or settings.tls_cert is None or settings.tls_key is None:
        return

    def renew(changed: Certificates) -> None:
        for part in parts:
            part.renew(changed)

    paths = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    yield CertificateWatch(*paths, found, renew, metrics.certificate_expiry.set).run()


def _announce(settings: Settings, running: Running, registry: Registry, stack: AsyncExitStack) -> None:
    """Log where the server serves, and write its ports."""
    places = Place(settings.host, running.port), Place(settings.metrics_host, running.metrics_port)
    log.info("serving gRPC on %s, metrics on %s", *places)
    if settings.page:
        log.info("the page to look at is %s://%s%s", "https" if settings.tls_cert else "http", places[1], page.PATH)
    seconds = time.time() - psutil.Process().create_time()
    log.info("models: %s; ready in %.1f s", ", ".join(map(str, registry)), seconds)
    if settings.port_file:
        stack.callback(settings.port_file.unlink, missing_ok=True)
        _write_ports(settings.port_file, running.port, running.metrics_port)


def _readers(gate: Gate) -> Callable[[str | None], bool]:
    """Return whether a header `authorization` lets its sender read the metrics, for use in any thread."""
    loop = asyncio.get_running_loop()

    async def may_read(authorization: str | None) -> bool:
        return gate.may_read(authorization)

    return lambda authorization: asyncio.run_coroutine_threadsafe(may_read(authorization), loop).result(READ_SECONDS)


def _write_ports(path: Path, port: int, metrics_port: int) -> None:
    """Write the file atomically."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps({"port": port, "metrics_port": metrics_port}))
        unfinished.replace(path)
    except OSError as error:
        raise StartupError(f"port-file {path} cannot be written: {error.strerror}") from error


def _device(settings: Settings) -> torch.device:
    torch.set_num_threads(settings.threads)
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise StartupError("device cuda is not available to PyTorch; use --device cpu or auto")
    return torch.device("cuda" if settings.device != "cpu" and available else "cpu")


def _limits(settings: Settings) -> BatchLimits:
    return BatchLimits(
        sessions=settings.batch_sessions,
        queued_requests=settings.queue_requests,
        queued_bytes=settings.queue_mib * MIB,
    )


def _monitor(kept: Kept, settings: Settings, metrics: Metrics, standard: Standard) -> Monitor:
    """Return what monitors Redis."""
    allow_volatile = settings.allow_volatile_redis
    monitor = Monitor(
        kept.client, kept.url, settings.namespace, metrics, standard.set_ready, allow_volatile=allow_volatile
    )
    loop = asyncio.get_running_loop()

    def look_now() -> None:
        with suppress(RuntimeError):  # the event loop, and so the server, has ended
            loop.call_soon_threadsafe(monitor.look_now)

    for store in kept.stores:
        store.tell_of_refusals(look_now)
    return monitor


async def _count_sessions(quotas: Quotas, catalog: Catalog) -> None:
    """Count the sessions of the tenants that may have only so many, now and then."""
    counted_at: dict[str, float] = {}
    while True:
        await asyncio.sleep(COUNT_LOOK_SECONDS)
        for tenant in quotas.limited_sessions():
            if time.monotonic() - counted_at.get(tenant, -math.inf) > COUNT_SECONDS:
                with suppress(ServiceError):  # Redis does not answer; the log says so
                    quotas.counted(tenant, await catalog.count(tenant))
                    counted_at[tenant] = time.monotonic()


async def _watch_loop(metrics: Metrics) -> None:
    """Measure how late the event loop is."""
    while True:
        due = time.perf_counter() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        metrics.loop_lag_seconds.observe(max(0.0, time.perf_counter() - due))


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


def _engines(settings: Settings, registry: Registry, stores: Sequence[Store], metrics: Metrics) -> list[Engine]:
    planner = Planner(registry, settings.session_ttl_seconds * 1000, settings.max_observations)
    cache = SessionCache(settings.cache_sessions)
    every = settings.snapshot_every
    return [Engine(registry, store, cache, planner, metrics, snapshot_every=every) for store in stores]


async def _all(threads: "Sequence[Future[None]]") -> None:
    """Wait until all threads end, or one fails."""
    await asyncio.gather(*map(asyncio.wrap_future, threads))


async def _stop_engine(scheduler: Scheduler, engine: "asyncio.Future[None]") -> None:
    """Let the engine finish its queue, for a limited time, since Redis may be slow."""
    scheduler.close()
    done, _ = await asyncio.wait([engine], timeout=ENGINE_STOP_SECONDS)
    if not done:
        log.error("the engine did not stop within %g s", ENGINE_STOP_SECONDS)
