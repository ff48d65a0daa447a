"""The part that both clients share: from arguments to operations, and from outcomes to results."""

import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

import numpy as np

from statecast.v1 import forecast_pb2, forecast_service_pb2, model_service_pb2

from . import _batches, _calls, _messages
from ._ask import Ask, Observations, Values, observations
from ._batches import Item
from ._calls import Operation, Patience
from ._core import SessionCore
from ._messages import Span
from ._replay_buffer import ReplayBuffer
from ._response import Response
from ._times import NONE, dated
from .errors import DeadlineExceeded, InvalidArgument, SomeFailed, StatecastError, invalid
from .types import Forecast, ModelInfo, Receipt, SessionInfo, Upgraded, Version

T = TypeVar("T")
S = TypeVar("S")
Told: TypeAlias = tuple[SessionCore, Observations]

LONGEST_TIMEOUT_SECONDS = 1e6
PAGE_SIZE = 500


def check_timeout(timeout_seconds: float) -> float:
    """Return the timeout; refuse it if it is out of range."""
    number = isinstance(timeout_seconds, (int, float)) and not isinstance(timeout_seconds, bool)
    if not number or not 0 < timeout_seconds <= LONGEST_TIMEOUT_SECONDS:
        raise invalid("timeout_seconds", f"expected more than 0 and at most {LONGEST_TIMEOUT_SECONDS:g}")
    return float(timeout_seconds)


def check_process(process_id: int) -> None:
    """Refuse to use a client in another process than the one that made it.

    Raises:
        StatecastError: This process is a fork of that one.
    """
    if process_id != os.getpid():
        raise StatecastError(
            f"this client was made in process {process_id}, and its connection does not survive a fork; make a new "
            f"client in process {os.getpid()}"
        )


def kept_waiting(session_id: str, timeout_seconds: float) -> DeadlineExceeded:
    """Return the error of a call whose time was up before its turn came."""
    error = DeadlineExceeded(f"other calls of session {session_id!r} took longer than {timeout_seconds:g} s")
    error.outcome_unknown = False
    return error


def split_pairs(pairs: Iterable[tuple[S, Values]], kind: type[S], client: Any) -> tuple[list[S], list[Told]]:
    """Split the pairs of a call about many sessions into the sessions and their observations."""
    sessions, told = [], []
    for pair in pairs:
        told.append(split_pair(pair, kind, client))
        sessions.append(pair[0])
    return sessions, told


def split_pair(pair: Any, kind: type[Any], client: Any) -> Told:
    """Return the core of a pair's session and its observations."""
    if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], kind):
        raise invalid("pairs", f"expected tuples of a session of this client and its values, got {pair!r}")
    session, values = pair
    if session._client is not client:
        raise invalid("pairs", f"session {session.id!r} is of another client")
    return session._core, values if isinstance(values, Observations) else observations(values)


def new_core(
    session_id: str, opening: forecast_pb2.OpenOptions, *, resume_only: bool, replay_requests: int
) -> SessionCore:
    """Return a session that its first request opens with `opening`, unless it must exist already."""
    name, replay_buffer = (
        _messages.text("session_id", session_id),
        ReplayBuffer(_messages.count("replay_requests", replay_requests)),
    )
    return SessionCore(name, None if resume_only else opening, replay_buffer, time_zone=opening.time_zone)


def observe(core: SessionCore, observed: Observations, ask: Ask, timeout_seconds: float) -> Operation[Receipt]:
    """Append observations."""
    asked = _asked(core, observed, ask)
    response = yield from _batches.forecast(core, asked.parts, timeout_seconds, may_split=not ask.request_id)
    return _to_receipt(asked, response)


def step(core: SessionCore, observed: Observations, ask: Ask, timeout_seconds: float) -> Operation[Forecast]:
    """Append observations, possibly none, and forecast."""
    asked = _asked(core, observed, ahead(ask))
    response = yield from _batches.forecast(core, asked.parts, timeout_seconds, may_split=not ask.request_id)
    return _to_forecast(asked, response)


def forward(
    core: SessionCore, observed: Observations, ask: Ask, timeout_seconds: float
) -> Operation[Forecast] | Operation[Receipt]:
    """Carry out one request of a stream: append, and forecast if there is a horizon."""
    return (step if ask.horizon else observe)(core, observed, ask, timeout_seconds)


def observe_many(told: Iterable[Told], ask: Ask, timeout_seconds: float) -> Operation[list[Receipt]]:
    """Append to many sessions."""
    return (yield from _many(told, ask, _to_receipt, timeout_seconds))


def step_many(told: Iterable[Told], ask: Ask, timeout_seconds: float) -> Operation[list[Forecast]]:
    """Append to many sessions and forecast each."""
    return (yield from _many(told, ahead(ask), _to_forecast, timeout_seconds))


def _many(
    told: Iterable[Told],
    ask: Ask,
    convert: Callable[[Item, Response], Any],
    timeout_seconds: float,
) -> Operation[list[Any]]:
    items = [_asked(core, observed, ask, is_one_of_many=True) for core, observed in told]
    yield from _batches.forecast_many(items, timeout_seconds)
    results = [item.error or convert(item, _messages.merged(item.parts, item.answers)) for item in items]
    if any(isinstance(result, StatecastError) for result in results):
        raise SomeFailed(results)
    return results


def outcomes(
    told: Iterable[Told], ask: Ask, timeout_seconds: float
) -> Operation[list[Forecast | Receipt | StatecastError]]:
    """Append to many sessions, and forecast if there is a horizon; each result is that of one session, or its error."""
    items: list[Item | StatecastError] = []
    for core, observed in told:
        try:
            items.append(_asked(core, observed, ask, is_one_of_many=True))
        except StatecastError as error:
            items.append(error)
    yield from _batches.forecast_many([item for item in items if isinstance(item, Item)], timeout_seconds)
    convert: Callable[[Item, Response], Forecast | Receipt] = _to_forecast if ask.horizon else _to_receipt
    return [
        item
        if isinstance(item, StatecastError)
        else item.error or convert(item, _messages.merged(item.parts, item.answers))
        for item in items
    ]


def _asked(core: SessionCore, observed: Observations, ask: Ask, *, is_one_of_many: bool = False) -> Item:
    try:
        options = _messages.options(ask, observed.future_covariates)
        when = dated(observed, core.reading, core.last_time)
        blocks = _messages.observations(observed, when)
        return Item(core, core.parts(blocks, options, ask, when.zone), when.ahead)
    except InvalidArgument as error:
        if is_one_of_many:
            error.message = f"session {core.session_id!r}: {error.message}"
            error.args = (error.message,)
        raise


def _to_receipt(asked: Item, response: Response) -> Receipt:
    return _messages.to_receipt(response, asked.parts[-1].block.targets)


def _to_forecast(asked: Item, response: Response) -> Forecast:
    forecast = _messages.to_forecast(response)
    if asked.ahead is not NONE and asked.ahead.size and forecast.start_time is not None:
        steps: Any = forecast.to_pandas().index  # pandas is installed: the times come from its index
        if not np.array_equal(steps.as_unit("ns").asi8, asked.ahead):
            warnings.warn(
                f"session {forecast.session_id!r}: this forecast is of {steps[0]} to {steps[-1]}, and the future "
                "covariates are dated otherwise; they were taken in their order",
                stacklevel=2,
            )
    return forecast


def get_session(session_id: str, timeout_seconds: float) -> Operation[SessionInfo]:
    """Look up a session."""
    message = forecast_service_pb2.GetSessionRequest(session_id=_messages.text("session_id", session_id))
    response = yield from _calls.exchange(_calls.GET_SESSION, message, Patience(timeout_seconds))
    return _messages.to_session_info(response.session)


def list_sessions(prefix: str, page_token: str, timeout_seconds: float) -> Operation[tuple[list[SessionInfo], str]]:
    """Return a page of sessions, and the token of the next page, empty after the last one."""
    message = forecast_service_pb2.ListSessionsRequest(
        prefix=_messages.text("prefix", prefix), page_token=page_token, page_size=PAGE_SIZE
    )
    response = yield from _calls.exchange(_calls.LIST_SESSIONS, message, Patience(timeout_seconds))
    return [_messages.to_session_info(session) for session in response.sessions], response.next_page_token


def fork(
    core: SessionCore,
    session_id: str,
    time_to_live: Span | None,
    if_version: Version | None,
    timeout_seconds: float,
) -> Operation[SessionCore]:
    """Copy a session under a new id."""
    message = _messages.fork_request(core.session_id, session_id, time_to_live, if_version, core.version)
    response = yield from _calls.exchange(_calls.FORK_SESSION, message, Patience(timeout_seconds))
    version = _messages.to_version(response.session.version)
    replay_buffer, zone = core.replay_buffer.begun_at(version), response.session.time_zone
    return SessionCore(session_id, None, replay_buffer, version, is_open=True, time_zone=core.time_zone, zone_seen=zone)


def upgrade(
    core: SessionCore,
    target: tuple[str, str],
    observed: Observations | None,
    since: Version | None,
    ask: Ask,
    timeout_seconds: float,
) -> Operation[Upgraded]:
    """Move a session to the model of this name and version; what opens it again names the same."""
    blocks = []
    if observed is not None:
        blocks = _messages.observations(observed, dated(observed, core.reading))
    message = _messages.upgrade_request(core.session_id, *target, blocks, since, ask, core.version)
    response = yield from _calls.exchange(_calls.UPGRADE_SESSION, message, Patience(timeout_seconds))
    core.upgraded(*target)
    return _messages.to_upgraded(response)


def close(core: SessionCore, timeout_seconds: float) -> Operation[None]:
    """Delete a session on the server."""
    yield from _calls.close_session(core.session_id, timeout_seconds)
    core.closed()


def list_models(timeout_seconds: float) -> Operation[list[ModelInfo]]:
    """Return all loaded models."""
    message = model_service_pb2.ListModelsRequest()
    response = yield from _calls.exchange(_calls.LIST_MODELS, message, Patience(timeout_seconds))
    return [_messages.to_model_info(model) for model in response.models]


def get_model(name: str, version: str, timeout_seconds: float) -> Operation[ModelInfo]:
    """Look up a model."""
    message = model_service_pb2.GetModelRequest(
        name=_messages.text("name", name), version=_messages.text("version", version)
    )
    response = yield from _calls.exchange(_calls.GET_MODEL, message, Patience(timeout_seconds))
    return _messages.to_model_info(response.model)


def ahead(ask: Ask) -> Ask:
    """Return what is asked for; refuse it if it is no forecast."""
    if ask.horizon == 0:
        raise invalid("horizon", "0 steps ahead is no forecast; to only append, observe")
    return ask
