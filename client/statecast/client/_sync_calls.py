# Generated from _async_calls.py by client/generate: change that file.
"""The calls of a client and its sessions.

client/generate makes _sync_calls.py, for the synchronous client, from _async_calls.py.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, TypeVar

from . import _operations
from ._ask import Ask, Numbers, Observations, Time, Times, Values, observations
from ._calls import Operation
from ._connection import Connection
from ._core import REPLAY_REQUESTS, SessionCore
from ._html import client_html, session_html
from ._messages import Span, open_options
from ._sync_frames import Frames
from .errors import StatecastError
from .types import Forecast, ModelInfo, Receipt, SessionInfo, Upgraded, Version

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")


class Calls(Frames):
    """The calls of a client; a subclass provides the connection."""

    _timeout_seconds: float
    _connection: Connection

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._connection.target!r}, timeout_seconds={self._timeout_seconds:g}>"

    def _repr_html_(self) -> str:
        return client_html(type(self).__name__, self._connection, self._timeout_seconds)

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
        frequency: str = "",
        upgrade: bool = False,
        resume_only: bool = False,
        replay_requests: int = REPLAY_REQUESTS,
    ) -> "Session":
        """Return a session by name, without sending anything.

        The session's first request opens it, or resumes it if it exists.

        Args:
            session_id: Id of the session, 1 to 256 printable characters.
            model: Name of the model, or NAME@ALIAS, such as "demand@production", for the version that the alias points
                to, which the session then follows. Empty for the server's default model.
            model_version: Version of the model; empty for the newest one.
            time_to_live: How long the server keeps the session after its last observation, in seconds or as a
                timedelta; None for the server's default.
            categories: Static categories of the session, such as {"region": "north"}. Categories left out, and values
                that the model did not see in training, count as unknown.
            time_zone: Zone whose days the session counts, such as "Europe/Berlin", if the model's steps are a day or
                longer. Empty for the zone of the first observations, if their times have one, or else UTC. An existing
                session keeps its own.
            max_ahead: How far ahead of the server's clock observations may be dated, in seconds or as a timedelta. 0
                for no limit; None for one day or two steps, whichever is longer. An existing session keeps its own.
            frequency: Time between two steps as a pandas alias such as "h", "15min" or "D", for a model without one,
                such as "base". The session then takes and returns times, and gaps in time become missing steps. Empty
                for the model's frequency, if it has one.
            upgrade: True to move the session to this model and version if it exists on another, as `upgrade` of a
                session does; False to refuse it then.
            resume_only: True if the session must exist already.
            replay_requests: Number of recent requests (at most 10,000 numbers in all) that the client keeps, and sends
                again if the server's Redis loses them; 0 for none.
        """
        opening = open_options(
            model, model_version, time_to_live, categories, time_zone, max_ahead, frequency, upgrade=upgrade
        )
        core = _operations.new_core(session_id, opening, resume_only=resume_only, replay_requests=replay_requests)
        return self._new_session(core)

    def observe_many(
        self,
        pairs: Iterable[tuple["Session", Values]],
        *,
        explain: bool = False,
        timeout_seconds: float | None = None,
    ) -> list[Receipt]:
        """Append to many sessions at once, and return a receipt for each pair, in order.

        Args:
            pairs: Sessions of this client, each with its values or `Observations`. A session may occur several times;
                its values are appended in the order given.
            explain: True to return the gates of each pair's last time step.
            timeout_seconds: Time for each request; None for the client's.

        Raises:
            SomeFailed: Some pairs failed; its `results` holds the receipt or the error of each pair.
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
        """Append to many sessions at once and forecast each; return a forecast for each pair, in order.

        Args:
            pairs: As for `observe_many`; values may be empty to append nothing.
            horizon: Number of steps to forecast.
            quantile_levels: Levels between the model's lowest and highest; empty for the model's own.
            explain: True to return the gates of each pair's last time step.
            timeout_seconds: Time for each request; None for the client's.

        Raises:
            SomeFailed: Some pairs failed; its `results` holds the forecast or the error of each pair.
        """
        sessions, told = _operations.split_pairs(pairs, Session, self)
        operation = _operations.step_many(told, Ask(horizon, quantile_levels, explain), self._timeout(timeout_seconds))
        return self._run_alone(operation, sessions, self._timeout(timeout_seconds))

    def sessions(self, prefix: str = "", *, timeout_seconds: float | None = None) -> Iterator[SessionInfo]:
        """Yield every session on the server whose id begins with `prefix`, unordered; a session may come twice.

        A session whose record cannot be read has an empty `model`.
        """
        token = ""
        while True:
            page, token = self._run(_operations.list_sessions(prefix, token, self._timeout(timeout_seconds)))
            for info in page:
                yield info
            if not token:
                return

    def models(self, *, timeout_seconds: float | None = None) -> list[ModelInfo]:
        """Return all models of the server, every version of each."""
        return self._run(_operations.list_models(self._timeout(timeout_seconds)))

    def model(self, name: str = "", version: str = "", *, timeout_seconds: float | None = None) -> ModelInfo:
        """Return one model: by default the server's default model, and its newest version."""
        return self._run(_operations.get_model(name, version, self._timeout(timeout_seconds)))

    def _timeout(self, timeout_seconds: float | None) -> float:
        """Return the timeout of one call; None stands for the client's."""
        return self._timeout_seconds if timeout_seconds is None else _operations.check_timeout(timeout_seconds)

    def _outcomes(
        self, pairs: Sequence[tuple["Session", Observations]], ask: Ask, timeout_seconds: float
    ) -> list[Forecast | Receipt | StatecastError]:
        if not pairs:
            return []
        told = [(session._core, observed) for session, observed in pairs]
        operation = _operations.outcomes(told, ask, timeout_seconds)
        return self._run_alone(operation, [session for session, _ in pairs], timeout_seconds)

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T:
        """Run an operation."""

    @abstractmethod
    def _run_alone(self, operation: Operation[T], sessions: Iterable["Session"], timeout_seconds: float) -> T:
        """Run an operation while no other request of its sessions is in flight.

        A session remembers only its last 16 requests: others must not push out one whose outcome is unknown.
        """

    @abstractmethod
    def _new_session(self, core: SessionCore) -> "Session":
        """Return a new object for a session."""


class Session:
    """A session: one sequence of observations, whose state the server keeps. Made by `Client.session`."""

    def __init__(self, client: Calls, core: SessionCore, lock: Any = None) -> None:
        self._client, self._core = client, core
        self._lock = lock

    def __repr__(self) -> str:
        model, version = self._core.model
        return (
            f"<{type(self).__name__} {self.id!r}, model={model!r}, model_version={version!r}, version={self.version}>"
        )

    def _repr_html_(self) -> str:
        return session_html(self.id, self._core.model, self.version)

    @property
    def id(self) -> str:
        """The session's id."""
        return self._core.session_id

    @property
    def version(self) -> Version | None:
        """The session's version after this object's last successful call; None before the first."""
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
        """Append observations.

        Args:
            values: A number, [time], or [time, targets]; NaN or None where missing. The times in the index of a Series
                or DataFrame are sent along.
            covariates: Past values of the model's covariates, in its order: [time, covariates], [time] if it has only
                one, or [covariates] with a single number. NaN where unknown; None if all are.
            start_time: Time of the first value, for a model with a frequency; the others follow at one step each.
            times: Time of each value, ascending, instead of `start_time`; steps between them count as missing. Times
                without a zone are in the session's `time_zone`. If that was not named, a datetime without a zone is
                refused, and datetime64 is UTC.
            request_id: Idempotency key. Anyone who knows it can repeat the request safely, even from another process.
                None for a new one.
            if_version: Append only if the session is at exactly this version.
            explain: True to return the gates of the last time step.
            timeout_seconds: Time for each request; None for the client's.
        """
        timeout = self._client._timeout(timeout_seconds)
        observed = observations(values, covariates, None, start_time, times)
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
        """Forecast the next steps of the session.

        Args:
            horizon: Number of steps to forecast.
            quantile_levels: Levels between the model's lowest and highest; empty for the model's own.
            future_covariates: Covariates in the steps to forecast: [horizon, covariates], or [horizon] if the model has
                only one. NaN where unknown; None if all are.
            if_version: Forecast only if the session is at exactly this version.
            timeout_seconds: Time for the request; None for the client's.
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
        """Append observations and forecast the steps after them, in one request.

        The arguments are those of `observe` and `forecast`; `values` may be empty to append nothing.
        """
        timeout = self._client._timeout(timeout_seconds)
        observed = observations(values, covariates, future_covariates, start_time, times)
        ask = Ask(horizon, quantile_levels, explain, request_id, if_version)
        operation = _operations.step(self._core, observed, ask, timeout)
        return self._client._run_alone(operation, [self], timeout)

    def plot(
        self,
        horizon: int,
        *,
        history: Any = None,
        future_covariates: Numbers | None = None,
        timeout_seconds: float | None = None,
    ) -> "Figure":
        """Forecast the next steps, and plot them as a matplotlib figure; see `plotting.plot_forecast`.

        Args:
            horizon: Number of steps to forecast.
            history: Values before the forecast, to plot as well: the server does not keep them.
            future_covariates: As for `forecast`.
            timeout_seconds: As for `forecast`.
        """
        forecast = self.forecast(horizon, future_covariates=future_covariates, timeout_seconds=timeout_seconds)
        return forecast.plot(history)

    def info(self, *, timeout_seconds: float | None = None) -> SessionInfo:
        """Look up the session on the server; it must exist."""
        return self._client._run(_operations.get_session(self.id, self._client._timeout(timeout_seconds)))

    def fork(
        self,
        session_id: str,
        *,
        time_to_live: Span | None = None,
        if_version: Version | None = None,
        timeout_seconds: float | None = None,
    ) -> "Session":
        """Copy the session under a new id; from then on the two are independent.

        Args:
            session_id: Id of the copy, which no session has yet.
            time_to_live: As for `Client.session`; None for this session's.
            if_version: Copy only if the session is at exactly this version.
            timeout_seconds: Time for the request; None for the client's.

        Raises:
            AlreadyExists: A session of that id exists.
        """
        timeout = self._client._timeout(timeout_seconds)
        operation = _operations.fork(self._core, session_id, time_to_live, if_version, timeout)
        return self._client._new_session(self._client._run_alone(operation, [self], timeout))

    def upgrade(
        self,
        model: str = "",
        *,
        model_version: str = "",
        values: Numbers | None = None,
        covariates: Numbers | None = None,
        start_time: Time | None = None,
        times: Times | None = None,
        since: Version | None = None,
        request_id: str | None = None,
        if_version: Version | None = None,
        timeout_seconds: float | None = None,
    ) -> Upgraded:
        """Move the session to another version of its model, or to another model of the same targets and steps.

        It keeps its version, request ids, options and time to live. Its new state is made from the recent values that
        its state keeps, or from `values`.

        Args:
            model: Name of the model, or NAME@ALIAS to follow an alias; empty for the session's own.
            model_version: Version of that model; empty for the newest one.
            values: All that the session has taken since step 0, for an exact new state, or since the version `since`.
                As for `observe`; NaN where a step was missing.
            covariates: As for `observe`.
            start_time: As for `observe`.
            times: As for `observe`.
            since: Version of the session before the first of the values, one of its last 17; None for step 0.
            request_id: As for `observe`.
            if_version: Move only if the session is at exactly this version.
            timeout_seconds: As for `observe`.

        Raises:
            PreconditionFailed: The model has other targets or steps, or the state keeps no values (`HISTORY_NEEDED`).
            InvalidArgument: The values are not those that the session has taken.
        """
        timeout = self._client._timeout(timeout_seconds)
        observed = None if values is None else observations(values, covariates, None, start_time, times)
        ask = Ask(request_id=request_id, if_version=if_version)
        operation = _operations.upgrade(self._core, (model, model_version), observed, since, ask, timeout)
        return self._client._run_alone(operation, [self], timeout)

    def close(self, *, timeout_seconds: float | None = None) -> None:
        """Delete the session and its state on the server; it must exist."""
        timeout = self._client._timeout(timeout_seconds)
        operation = _operations.close(self._core, timeout)
        self._client._run_alone(operation, [self], timeout)
