"""The client for ordinary code. Clients may be shared by threads."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import tzinfo
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import grpc

from . import _calls, _operations
from ._ask import Ask, Numbers, Observations, Time, Times, Values
from ._calls import Method, Operation, Pause
from ._core import REPLAY_REQUESTS, SessionCore
from ._messages import Span, open_options
from ._sync_stream import Driver, FrameStream
from .errors import Cancelled, StatecastError
from .types import Forecast, ModelInfo, Receipt, SessionInfo, Version

T = TypeVar("T")


class Client:
    """A connection to a Statecast server, or to several behind one name, of the process that makes it.

    Every method raises `StatecastError` and its kinds, and repeats a request whose outcome is unknown, safely, until
    its time is up. `timeout_seconds` is the time for one request, all attempts together; what is cut into several
    requests (more than 7,560 values and covariates, hundreds of sessions) has it for each.
    """

    def __init__(
        self, target: str, *, timeout_seconds: float = 10.0, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        """Connects when first used.

        Args:
            target: "host:port", or any other gRPC name such as "dns:///statecast:50051".
            timeout_seconds: Of every request that is not given another.
            credentials: For TLS, from `grpc.ssl_channel_credentials`; without them the connection is not encrypted.
        """
        self._timeout_seconds = _operations.check_timeout(timeout_seconds)
        self._closed = False
        # One for each session that is in use, however many objects there are of it.
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._making_locks = threading.Lock()
        self._process_id = os.getpid()
        target, options = _operations.check_target(target), list(_calls.CHANNEL_OPTIONS)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, credentials, options)
        self._methods: dict[Method, Any] = {
            method: self._channel.unary_unary(
                method.path,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=method.response.FromString,
            )
            for method in _calls.METHODS
        }
        self._stream_method: Any = self._channel.stream_stream(
            _calls.FORECAST_STREAM.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_calls.FORECAST_STREAM.response.FromString,
        )

    def session(
        self,
        session_id: str,
        model: str = "",
        *,
        model_version: str = "",
        time_to_live: Span | None = None,
        categories: Mapping[str, str] | None = None,
        time_zone: str | tzinfo = "",
        max_ahead: Span | None = None,
        resume_only: bool = False,
        replay_requests: int = REPLAY_REQUESTS,
    ) -> "Session":
        """A session by name: the first request opens it, or resumes it if it exists. Nothing is sent yet.

        Args:
            session_id: Any 1 to 256 printable characters.
            model: The model's name; empty for the server's default.
            model_version: Its version; empty for the newest.
            time_to_live: How long, in seconds or as a timedelta, the server keeps the session after its last
                observation; None for the server's default.
            categories: The session's static categories, such as {"region": "north"}: for those of the model that are
                known. A value that the model has not seen in training counts as unknown.
            time_zone: The zone whose days count where the model's steps are a day or longer, such as "Europe/Berlin".
                Unless named, it is that of the first observations, if their times have one, or else UTC. A session that
                exists keeps its own.
            max_ahead: How far ahead of the server's clock, in seconds or as a timedelta, observations may be dated; 0
                for any time, None for the larger of one day and two steps. A session that exists keeps its own.
            resume_only: Whether the session must exist.
            replay_requests: How many of its last requests (and at most 10,000 of their numbers) to keep, to send them
                again by itself should the server's Redis lose them; 0 for none.
        """
        opening = open_options(model, model_version, time_to_live, categories, time_zone, max_ahead)
        core = _operations.new_core(session_id, opening, resume_only=resume_only, replay_requests=replay_requests)
        return self._new_session(core)

    def observe_many(
        self,
        pairs: Iterable[tuple["Session", Values]],
        *,
        explain: bool = False,
        timeout_seconds: float | None = None,
    ) -> list[Receipt]:
        """Appends to many sessions at once, each session's values, or `Observations`, in the order given.

        Raises:
            SomeFailed: Some could not be carried out; its `results` tells which.
        """
        sessions, told = _operations.split_pairs(pairs, Session, self)
        operation = _operations.observe_many(told, Ask(explain=explain), self._timeout(timeout_seconds))
        return self._run_alone(operation, sessions, self._timeout(timeout_seconds))

    def step_many(
        self,
        pairs: Iterable[tuple["Session", Values]],
        horizon: int,
        *,
        quantile_levels: Sequence[float] = (),
        explain: bool = False,
        timeout_seconds: float | None = None,
    ) -> list[Forecast]:
        """Appends to many sessions at once, as `observe_many`, but it may be nothing, and forecasts each.

        Raises:
            SomeFailed: Some could not be carried out; its `results` tells which.
        """
        sessions, told = _operations.split_pairs(pairs, Session, self)
        operation = _operations.step_many(told, Ask(horizon, quantile_levels, explain), self._timeout(timeout_seconds))
        return self._run_alone(operation, sessions, self._timeout(timeout_seconds))

    def stream(
        self,
        pairs: Iterable[tuple["Session", Values]],
        horizon: int = 0,
        *,
        quantile_levels: Sequence[float] = (),
        explain: bool = False,
        timeout_seconds: float | None = None,
    ) -> Iterator[tuple["Session", Forecast | Receipt | StatecastError]]:
        """Appends without end: takes sessions and values as they come, and gives results in the same order.

        At most 256 are under way, so `pairs` is read no further ahead than that, in a thread of its own. A request that
        fails gives its error and ends nothing; after a broken connection what was not answered is sent again. Leave the
        sessions to the stream until it has ended.

        Args:
            pairs: Sessions of this client, each with its next values or `Observations`; may be endless.
            horizon: How many steps ahead to forecast; 0 to only append, which gives receipts.
            quantile_levels: Of the forecasts; none for the model's own.
            explain: Whether to tell the gates of each request's last time step.
            timeout_seconds: Of each request; None for the client's.
        """
        timeout, ask = self._timeout(timeout_seconds), Ask(horizon, quantile_levels, explain)

        def work() -> Iterator[tuple[Session, Callable[[], Operation[Any]]]]:
            for pair in pairs:
                (session,), (told,) = _operations.split_pairs([pair], Session, self)
                yield session, partial(_operations.forward, *told, ask, timeout)

        if self._closed:
            raise StatecastError("the client is closed")
        _operations.check_process(self._process_id)
        driver: Driver[Session] = Driver(FrameStream(self._stream_method), lambda session: session.id)
        return driver.run(work())

    def sessions(self, prefix: str = "", *, timeout_seconds: float | None = None) -> Iterator[SessionInfo]:
        """Every session of the server whose id begins with `prefix`, in no order; one may come twice.

        One whose record cannot be read has an empty `model`.
        """
        token = ""
        while True:
            page, token = self._run(_operations.list_sessions(prefix, token, self._timeout(timeout_seconds)))
            yield from page
            if not token:
                return

    def models(self, *, timeout_seconds: float | None = None) -> list[ModelInfo]:
        """All models of the server, every version of each."""
        return self._run(_operations.list_models(self._timeout(timeout_seconds)))

    def model(self, name: str = "", version: str = "", *, timeout_seconds: float | None = None) -> ModelInfo:
        """One model; the server's default one, and the newest version, unless named."""
        return self._run(_operations.get_model(name, version, self._timeout(timeout_seconds)))

    def close(self) -> None:
        """Hangs up; the sessions live on in the server."""
        self._closed = True
        if self._process_id == os.getpid():  # the connection belongs to the process that made it
            self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _new_session(self, core: SessionCore) -> "Session":
        _operations.check_process(self._process_id)
        with self._making_locks:
            lock = self._locks.setdefault(core.session_id, threading.Lock())
        return Session(self, core, lock)

    def _timeout(self, timeout_seconds: float | None) -> float:
        """The timeout of one call."""
        return self._timeout_seconds if timeout_seconds is None else _operations.check_timeout(timeout_seconds)

    def _run_alone(self, operation: Operation[T], sessions: Iterable["Session"], timeout_seconds: float) -> T:
        """Carries an operation out when nothing else of its sessions is under way.

        A session remembers the last requests only: while the outcome of one is unknown, others must not push it out.
        """
        _operations.check_process(self._process_id)
        end = time.monotonic() + timeout_seconds
        with ExitStack() as stack:
            locks = {session.id: session._lock for session in sessions}
            for session_id in sorted(locks):  # one order for all, so that two calls cannot wait for each other
                if not locks[session_id].acquire(timeout=max(0.0, end - time.monotonic())):
                    raise _operations.kept_waiting(session_id, timeout_seconds)
                stack.callback(locks[session_id].release)
            return self._run(operation)

    def _run(self, operation: Operation[T]) -> T:
        """Carries an operation out."""
        if self._closed:
            raise StatecastError("the client is closed")
        _operations.check_process(self._process_id)
        try:
            action = next(operation)
            while True:
                if isinstance(action, Pause):
                    time.sleep(action.seconds)
                    action = next(operation)
                    continue
                try:
                    response = self._methods[action.method](action.message, timeout=action.timeout_seconds)
                except grpc.RpcError as error:
                    action = operation.throw(Cancelled("the client was closed") if self._closed else error)
                except ValueError as error:  # gRPC's word for a channel that was closed meanwhile
                    raise Cancelled("the client was closed") from error
                else:
                    action = operation.send(response)
        except StopIteration as stop:
            result: T = stop.value
            return result


class Session:
    """One sequence of observations, whose state the server keeps. Made by `Client.session`."""

    def __init__(self, client: Client, core: SessionCore, lock: threading.Lock) -> None:
        self._client, self._core, self._lock = client, core, lock

    @property
    def id(self) -> str:
        """The session's name."""
        return self._core.session_id

    @property
    def version(self) -> Version | None:
        """Where the session stood after this object's last successful call; None before the first."""
        return self._core.version

    def observe(
        self,
        values: Numbers,
        *,
        covariates: Numbers | None = None,
        start_time: Time | None = None,
        times: Times | None = None,
        request_id: str | None = None,
        if_version: Version | None = None,
        explain: bool = False,
        timeout_seconds: float | None = None,
    ) -> Receipt:
        """Appends observations.

        Args:
            values: A number, [time], or [time, targets]; NaN or None where missing. The times in the index of a Series
                or DataFrame are sent along.
            covariates: What the model's covariates were, in its order: [time, covariates], or [time] if it has one, or
                those of a single number; NaN where not known, None if none is.
            start_time: The time of the first one, for a model with a frequency; the others follow step by step.
            times: The time of each one, ascending, instead of `start_time`; steps between them are missing ones. Times
                without a zone are in the session's `time_zone`, or in UTC if it was not named.
            request_id: An id of this request, so that it can be repeated by whoever knows the id, even from another
                process; None for a new one.
            if_version: Append only if the session stands exactly there.
            explain: Whether to tell what the model's gates did in the last time step.
            timeout_seconds: None for the client's.
        """
        timeout = self._client._timeout(timeout_seconds)
        observed = Observations(values, covariates=covariates, start_time=start_time, times=times)
        ask = Ask(explain=explain, request_id=request_id, if_version=if_version)
        operation = _operations.observe(self._core, observed, ask, timeout)
        return self._client._run_alone(operation, [self], timeout)

    def forecast(
        self,
        horizon: int,
        *,
        quantile_levels: Sequence[float] = (),
        future_covariates: Numbers | None = None,
        if_version: Version | None = None,
        timeout_seconds: float | None = None,
    ) -> Forecast:
        """Forecasts from where the session stands.

        Args:
            horizon: How many steps ahead.
            quantile_levels: Between the model's lowest and highest; none for the model's own.
            future_covariates: What the model's covariates will be: [horizon, covariates], or [horizon] if it has one;
                NaN where not known, None if none is.
            if_version: Forecast only if the session stands exactly there.
            timeout_seconds: None for the client's.
        """
        return self.step(
            (),
            horizon,
            quantile_levels=quantile_levels,
            future_covariates=future_covariates,
            if_version=if_version,
            timeout_seconds=timeout_seconds,
        )

    def step(
        self,
        values: Numbers,
        horizon: int,
        *,
        quantile_levels: Sequence[float] = (),
        covariates: Numbers | None = None,
        future_covariates: Numbers | None = None,
        start_time: Time | None = None,
        times: Times | None = None,
        request_id: str | None = None,
        if_version: Version | None = None,
        explain: bool = False,
        timeout_seconds: float | None = None,
    ) -> Forecast:
        """Appends observations and forecasts from there, in one request; arguments as for `observe` and `forecast`."""
        timeout = self._client._timeout(timeout_seconds)
        observed = Observations(
            values,
            covariates=covariates,
            future_covariates=future_covariates,
            start_time=start_time,
            times=times,
        )
        ask = Ask(horizon, quantile_levels, explain, request_id, if_version)
        operation = _operations.step(self._core, observed, ask, timeout)
        return self._client._run_alone(operation, [self], timeout)

    def info(self, *, timeout_seconds: float | None = None) -> SessionInfo:
        """Looks at the session; it must exist."""
        return self._client._run(_operations.get_session(self.id, self._client._timeout(timeout_seconds)))

    def fork(
        self,
        session_id: str,
        *,
        time_to_live: Span | None = None,
        if_version: Version | None = None,
        timeout_seconds: float | None = None,
    ) -> "Session":
        """Copies the session as it stands under a new id; the two go their own ways from there.

        Args:
            session_id: The new session's name; no session may have it yet.
            time_to_live: As for `Client.session`; None for this session's.
            if_version: Copy only if the session stands exactly there.
            timeout_seconds: None for the client's.

        Raises:
            AlreadyExists: There is a session of that name.
        """
        timeout = self._client._timeout(timeout_seconds)
        operation = _operations.fork(self._core, session_id, time_to_live, if_version, timeout)
        return self._client._new_session(self._client._run_alone(operation, [self], timeout))

    def close(self, *, timeout_seconds: float | None = None) -> None:
        """Makes the server forget the session and its state; it must exist."""
        timeout = self._client._timeout(timeout_seconds)
        operation = _operations.close(self._core, timeout)
        self._client._run_alone(operation, [self], timeout)
