# Generated from _async_calls.py by client/generate: change that file.
"""The calls of a client and its sessions.

The module for ordinary code is generated from the one for asyncio: client/generate.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import Any, TypeVar

from . import _operations
from ._ask import Ask, Numbers, Observations, Time, Times, Values
from ._calls import Operation
from ._core import REPLAY_REQUESTS, SessionCore
from ._messages import Span, open_options
from .types import Forecast, ModelInfo, Receipt, SessionInfo, Version

T = TypeVar("T")


class Calls(ABC):
    """What a client does by way of its connection, which a subclass has."""

    _timeout_seconds: float

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

    def sessions(self, prefix: str = "", *, timeout_seconds: float | None = None) -> Iterator[SessionInfo]:
        """Every session of the server whose id begins with `prefix`, in no order; one may come twice.

        One whose record cannot be read has an empty `model`.
        """
        token = ""
        while True:
            page, token = self._run(_operations.list_sessions(prefix, token, self._timeout(timeout_seconds)))
            for info in page:
                yield info
            if not token:
                return

    def models(self, *, timeout_seconds: float | None = None) -> list[ModelInfo]:
        """All models of the server, every version of each."""
        return self._run(_operations.list_models(self._timeout(timeout_seconds)))

    def model(self, name: str = "", version: str = "", *, timeout_seconds: float | None = None) -> ModelInfo:
        """One model; the server's default one, and the newest version, unless named."""
        return self._run(_operations.get_model(name, version, self._timeout(timeout_seconds)))

    def _timeout(self, timeout_seconds: float | None) -> float:
        """The timeout of one call."""
        return self._timeout_seconds if timeout_seconds is None else _operations.check_timeout(timeout_seconds)

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T:
        """Carries an operation out."""

    @abstractmethod
    def _run_alone(self, operation: Operation[T], sessions: Iterable["Session"], timeout_seconds: float) -> T:
        """Carries an operation out when nothing else of its sessions is under way.

        A session remembers the last requests only: while the outcome of one is unknown, others must not push it out.
        """

    @abstractmethod
    def _new_session(self, core: SessionCore) -> "Session":
        """Returns an object of a session."""


class Session:
    """One sequence of observations, whose state the server keeps. Made by `Client.session`."""

    def __init__(self, client: Calls, core: SessionCore, lock: Any = None) -> None:
        self._client, self._core = client, core
        self._lock = lock

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
