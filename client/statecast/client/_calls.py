"""The logic of calls without I/O: generators that yield what to send and how long to wait.

The clients (_sync.py, _aio.py) carry out these actions. They send each response, or throw each RpcError, into the
generator. So they share retries, back-off, deadlines and frames.
"""

import random
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias, TypeVar

import grpc

from statecast.v1 import forecast_service_pb2, model_service_pb2

from ._request import Encodable
from ._response import read_response, read_results
from .errors import (
    NotFound,
    PreconditionFailed,
    StatecastError,
    Unauthenticated,
    VersionMismatch,
    from_rpc_error,
)

T = TypeVar("T")
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
SHORTEST_TIMEOUT_SECONDS = 0.001

CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    # A channel that has lost its server reconnects as often as calls are retried.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Notice a stopped or unreachable server while there is time to ask another one.
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.ping_timeout_ms", 2000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", -1),
    # Any replica can answer any call.
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)


class Method(NamedTuple):
    """An RPC method: its path, and the function that reads its response."""

    path: str
    read: Callable[[bytes], Any]


_FORECASTS, _MODELS = "/statecast.v1.ForecastService/", "/statecast.v1.ModelService/"
FORECAST = Method(_FORECASTS + "Forecast", read_response)
FORECAST_MANY = Method(_FORECASTS + "ForecastMany", read_results)
GET_SESSION = Method(_FORECASTS + "GetSession", forecast_service_pb2.GetSessionResponse.FromString)
LIST_SESSIONS = Method(_FORECASTS + "ListSessions", forecast_service_pb2.ListSessionsResponse.FromString)
FORK_SESSION = Method(_FORECASTS + "ForkSession", forecast_service_pb2.ForkSessionResponse.FromString)
UPGRADE_SESSION = Method(_FORECASTS + "UpgradeSession", forecast_service_pb2.UpgradeSessionResponse.FromString)
CLOSE_SESSION = Method(_FORECASTS + "CloseSession", forecast_service_pb2.CloseSessionResponse.FromString)
LIST_MODELS = Method(_MODELS + "ListModels", model_service_pb2.ListModelsResponse.FromString)
GET_MODEL = Method(_MODELS + "GetModel", model_service_pb2.GetModelResponse.FromString)
METHODS = (
    FORECAST, FORECAST_MANY, GET_SESSION, LIST_SESSIONS, FORK_SESSION, UPGRADE_SESSION, CLOSE_SESSION,
    LIST_MODELS, GET_MODEL,
)  # fmt: skip
FORECAST_STREAM = Method(_FORECASTS + "ForecastStream", read_results)


class Send(NamedTuple):
    """The action of calling a method; the response goes into the generator."""

    method: Method
    message: Encodable
    timeout_seconds: float


class Pause(NamedTuple):
    """The action of waiting."""

    seconds: float


Operation: TypeAlias = Generator[Send | Pause, Any, T]


class Patience:
    """The time left for one request, all attempts together, and the pauses between them.

    It begins now, or at a time on the clock of time.monotonic.
    """

    __slots__ = ("_end", "_has_asked_again", "_next_pause_seconds", "outcome_unknown")

    def __init__(self, timeout_seconds: float, begun_at: float | None = None) -> None:
        self._end = (time.monotonic() if begun_at is None else begun_at) + timeout_seconds
        self._next_pause_seconds = FIRST_PAUSE_SECONDS
        self._has_asked_again = False
        self.outcome_unknown = False

    @property
    def is_over(self) -> bool:
        """True if no time is left."""
        return time.monotonic() >= self._end

    @property
    def remaining_seconds(self) -> float:
        """Time left; at least a millisecond, so that it can be a timeout."""
        return max(self._end - time.monotonic(), SHORTEST_TIMEOUT_SECONDS)

    def pause_after(self, error: StatecastError) -> Pause:
        """Return the pause before the next attempt.

        Raises:
            StatecastError: `error`, if another attempt is useless or there is no time for it.
        """
        seconds = max(self._next_pause_seconds * random.uniform(0.5, 1), error.retry_after_seconds or 0)
        self.outcome_unknown |= error.outcome_unknown
        is_refused = isinstance(error, Unauthenticated)  # one other token is tried, not a third
        is_last = not error.may_succeed_again or (is_refused and self._has_asked_again)
        if is_last or seconds >= self.remaining_seconds:
            error.outcome_unknown = self.outcome_unknown  # an earlier attempt counts too
            raise error
        self._has_asked_again |= is_refused
        self._next_pause_seconds = min(2 * self._next_pause_seconds, LONGEST_PAUSE_SECONDS)
        return Pause(seconds)


def exchange(
    method: Method, message: Encodable, patience: Patience, failure: StatecastError | None = None
) -> Operation[Any]:
    """Send a message until it is answered, or refused for good, or time is up; `failure` is that of a first attempt."""
    while True:
        if failure is not None:
            yield patience.pause_after(failure)
        try:
            return (yield Send(method, message, patience.remaining_seconds))
        except (grpc.RpcError, StatecastError) as error:
            failure = from_rpc_error(error)


def close_session(session_id: str, timeout_seconds: float) -> Operation[None]:
    """Close a session at its current version. If gone after an attempt of unknown outcome, it counts as closed."""
    patience = Patience(timeout_seconds)
    while True:
        closing = forecast_service_pb2.CloseSessionRequest(session_id=session_id)
        try:
            with suppress(PreconditionFailed):  # a session whose record cannot be read can be closed, too
                look = forecast_service_pb2.GetSessionRequest(session_id=session_id)
                found = yield from exchange(GET_SESSION, look, patience)
                # With its version, a repeated attempt cannot close a session that was opened again meanwhile.
                closing.if_version.CopyFrom(found.session.version)
            yield from exchange(CLOSE_SESSION, closing, patience)
            return
        except NotFound:
            if not patience.outcome_unknown:
                raise
            return
        except VersionMismatch:  # somebody appended between the look and the close
            if patience.outcome_unknown or patience.is_over:
                raise
