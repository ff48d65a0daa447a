"""Counts, times and logs every request once, on its own, in a frame or on a stream."""

import time
from collections.abc import Iterator, Sequence
from enum import StrEnum

import grpc
from prometheus_client import Counter, Histogram

from statecast.service.engine.request import Request
from statecast.service.errors import ServiceError
from statecast.service.metrics import Metrics, observe_all
from statecast.service.rpc.request_log import Caller, Ended, Ending, RequestLog
from statecast.service.rpc.status import code_of
from statecast.v1.forecast_service_pb2 import ForecastRequest
from statecast.v1.reasons import Reason

UNSUPPORTED_METHODS = (
    "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryStatus", "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister", "TraceSetting", "LogSettings",
)  # fmt: skip
"""The methods of the Open Inference Protocol that make no sense here."""


class Kind(StrEnum):
    """Kinds of requests."""

    OBSERVE = "observe"
    FORECAST = "forecast"
    STEP = "step"
    """Observe and forecast."""
    LOOK = "look"
    """Neither: read the session's version."""
    OPEN = "open"
    GET = "get"
    LIST = "list"
    FORK = "fork"
    CLOSE = "close"
    UPGRADE = "upgrade"
    LIST_MODELS = "list_models"
    GET_MODEL = "get_model"
    EXPORT = "export"
    IMPORT = "import"
    """Of each session."""
    MANAGE = "manage"
    """Of aliases, policies and retired versions of models."""
    READY = "ready"
    """Of the Open Inference Protocol: whether the server or a model serves, and what the server is called."""
    UNSUPPORTED = "unsupported"
    """Of the same protocol: a method that makes no sense here."""
    UNKNOWN = "unknown"
    """The request cannot be decoded."""


BY_METHOD = {
    "OpenSession": Kind.OPEN,
    "GetSession": Kind.GET,
    "ListSessions": Kind.LIST,
    "ForkSession": Kind.FORK,
    "CloseSession": Kind.CLOSE,
    "UpgradeSession": Kind.UPGRADE,
    "ListModels": Kind.LIST_MODELS,
    "GetModel": Kind.GET_MODEL,
    "ExportSessions": Kind.EXPORT,
    "SetModelAlias": Kind.MANAGE,
    "SetModelPolicy": Kind.MANAGE,
    "RetireModel": Kind.MANAGE,
    "ServerLive": Kind.READY,
    "ServerReady": Kind.READY,
    "ServerMetadata": Kind.READY,
    "ModelReady": Kind.READY,
    "ModelMetadata": Kind.GET_MODEL,
    "ModelConfig": Kind.GET_MODEL,
    "ModelInfer": Kind.STEP,
    **dict.fromkeys(UNSUPPORTED_METHODS, Kind.UNSUPPORTED),
}
"""The methods with one request of a fixed kind; that of Forecast depends on its message."""
_CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: (Reason.INVALID_FIELD, Reason.REQUEST_ID_REUSED, Reason.SPAN_TOO_LONG),
    grpc.StatusCode.NOT_FOUND: (
        Reason.SESSION_NOT_FOUND, Reason.SESSION_CLOSED, Reason.SESSION_EXPIRED, Reason.MODEL_NOT_FOUND
    ),
    grpc.StatusCode.ALREADY_EXISTS: (Reason.SESSION_EXISTS,),
    grpc.StatusCode.ABORTED: (Reason.VERSION_MISMATCH, Reason.REQUEST_OUTDATED, Reason.SESSION_REGRESSED),
    grpc.StatusCode.FAILED_PRECONDITION: (
        Reason.OTHER_MODEL, Reason.OTHER_CATEGORIES, Reason.OTHER_FREQUENCY, Reason.MODEL_CHANGED,
        Reason.MODEL_IN_USE, Reason.UNSUITABLE_MODEL, Reason.HISTORY_NEEDED, Reason.RECORD_DAMAGED,
        Reason.TIME_ORDER, Reason.TIME_AHEAD, Reason.STORE_REFUSES,
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        Reason.QUEUE_FULL, Reason.STREAMS_FULL, Reason.FRAME_FULL, Reason.STORE_FULL, Reason.QUOTA_EXCEEDED
    ),
    grpc.StatusCode.UNAUTHENTICATED: (
        Reason.CREDENTIAL_MISSING, Reason.CREDENTIAL_INVALID, Reason.CREDENTIAL_EXPIRED
    ),
    grpc.StatusCode.PERMISSION_DENIED: (Reason.ROLE_TOO_LOW,),
    grpc.StatusCode.UNIMPLEMENTED: (Reason.UNSUPPORTED,),
    grpc.StatusCode.DEADLINE_EXCEEDED: (Reason.DEADLINE_PASSED,),
    grpc.StatusCode.UNAVAILABLE: (
        Reason.STORE_UNAVAILABLE, Reason.STORE_UNREACHABLE, Reason.CONTENDED, Reason.DRAINING, Reason.MODEL_LOADING,
        Reason.MODEL_UNAVAILABLE,
    ),
}  # fmt: skip
_KINDS = {
    (True, True): Kind.STEP, (True, False): Kind.FORECAST, (False, True): Kind.OBSERVE, (False, False): Kind.LOOK
}  # fmt: skip
OK, CANCELLED, INTERNAL = (
    (code.name, "") for code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)
)


def outcomes() -> Iterator[tuple[str, str]]:
    """Yield every code and reason that a request can end with; the reason is empty unless the server gives one."""
    yield from (OK, CANCELLED, INTERNAL)
    for code, reasons in _CODES.items():
        yield from ((code.name, reason.value) for reason in reasons)


def kind_of_message(message: ForecastRequest) -> Kind:
    """Return the kind of a Forecast call's request."""
    return _KINDS[bool(message.horizon), bool(message.observations.values)]


def kind_of(request: Request) -> Kind:
    """Return the kind of a Forecast call's request, as the engine has it."""
    return _KINDS[request.horizon > 0, request.values.size > 0]


def ending_of(error: Exception) -> Ending:
    """Return the code and reason that a request with this error ends with."""
    return (code_of(error).name, error.reason.value) if isinstance(error, ServiceError) else INTERNAL


class Accounts:
    """The counters and the log of all requests, for use in the event loop.

    `asked` is always the request: its message, the engine's request, or None if neither is known.
    """

    def __init__(self, metrics: Metrics, request_log: RequestLog) -> None:
        """Create all counters at 0, so that a first burst of errors shows as an increase."""
        self._metrics, self._log = metrics, request_log
        self._tenants = metrics.tenants
        if self._tenants is not None:
            self._tenants.start_at_zero(code for code, _ in outcomes())
        self._seconds: dict[Kind, Histogram] = {kind: metrics.request_seconds.labels(kind) for kind in Kind}
        self._counts: dict[tuple[Kind, str, str], Counter] = {
            (kind, *outcome): metrics.requests.labels(kind, *outcome) for kind in Kind for outcome in outcomes()
        }

    def succeeded(self, kind: Kind, started: float, asked: object, caller: Caller) -> None:
        """Settle a successful request that began at `started`, by time.perf_counter."""
        self._settle(kind, started, OK, asked, caller)

    def all_succeeded(self, requests: Sequence[Request], started: float, caller: Caller) -> None:
        """Settle requests of Forecast calls that began together and were answered together."""
        seconds = time.perf_counter() - started
        kinds = [kind_of(request) for request in requests]
        for kind in set(kinds):
            count = kinds.count(kind)
            observe_all(self._seconds[kind], {seconds: count})
            self._counts[kind, *OK].inc(count)
        if self._tenants is not None:
            self._tenants.settled(caller.principal.tenant, *OK, len(requests))
        if caller.trace is None and seconds < self._log.from_seconds:
            return
        for kind, request in zip(kinds, requests, strict=True):
            if caller.trace is not None:
                caller.trace.settled(kind, *OK, request)
            if seconds >= self._log.from_seconds:
                self._log.ended(Ended(kind, OK, seconds, request, caller))

    def failed(self, kind: Kind, started: float, error: Exception, asked: object, caller: Caller) -> None:
        """Settle a request that ended with an error."""
        outcome = ending_of(error)
        seconds = self._settle(kind, started, outcome, asked, caller)
        if self._log.admits_failure(outcome):
            self._log.failed(Ended(kind, outcome, seconds, asked, caller), error)

    def cancelled(self, kind: Kind, started: float, asked: object, caller: Caller) -> None:
        """Settle a request whose caller has gone."""
        self._settle(kind, started, CANCELLED, asked, caller)

    def call_failed(self, method: str, started: float, error: Exception, caller: Caller) -> None:
        """Log a call that carries many requests and ended with an error that is none of theirs."""
        outcome = ending_of(error)
        if self._tenants is not None:
            self._tenants.refused(caller.principal.tenant, outcome[1])
        if self._log.admits_failure(outcome):
            self._log.failed(Ended(method, outcome, time.perf_counter() - started, None, caller), error)

    def _settle(self, kind: Kind, started: float, outcome: Ending, asked: object, caller: Caller) -> float:
        """Count and time a request; return the seconds that it took."""
        seconds = time.perf_counter() - started
        observe_all(self._seconds[kind], {seconds: 1})
        counter = self._counts.get((kind, *outcome))
        if counter is None:
            counter = self._counts[kind, *outcome] = self._metrics.requests.labels(kind, *outcome)
        counter.inc()
        if self._tenants is not None:
            self._tenants.settled(caller.principal.tenant, *outcome)
        if caller.trace is not None:
            caller.trace.settled(kind, *outcome, asked)
        if seconds >= self._log.from_seconds:
            self._log.ended(Ended(kind, outcome, seconds, asked, caller))
        return seconds
