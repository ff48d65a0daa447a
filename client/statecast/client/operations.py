"""What both clients say in the same words: from arguments to operations, and from outcomes to results."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from statecast.v1 import forecast_service_pb2, model_service_pb2

from . import batches, calls, messages
from .batches import Item
from .calls import Operation, Patience
from .core import SessionCore
from .errors import DeadlineExceeded, SomeFailed, StatecastError, invalid
from .memory import Memory
from .messages import Time, TimeToLive
from .types import Forecast, ModelInfo, Receipt, SessionInfo, Version

T = TypeVar("T")
S = TypeVar("S")

LONGEST_TIMEOUT_SECONDS = 1e6
PAGE_SIZE = 500


def check_target(target: str) -> str:
    """The target, unless it is the address of a web page or has a port that cannot be."""
    scheme, separator, _ = messages.text("target", target).partition("://")
    if separator and scheme.lower() in ("http", "https", "grpc", "grpcs", "tcp"):
        raise invalid("target", f"{target!r} is not host:port; leave out {scheme}://")
    port = target.rpartition(":")[2]
    if port.isdecimal() and int(port) > 65_535:
        raise invalid("target", f"{target!r}: there is no port {port}")
    return target


def check_timeout(timeout_seconds: float) -> float:
    """The timeout, if it can be one."""
    number = isinstance(timeout_seconds, (int, float)) and not isinstance(timeout_seconds, bool)
    if not number or not 0 < timeout_seconds <= LONGEST_TIMEOUT_SECONDS:
        raise invalid("timeout_seconds", f"expected more than 0 and at most {LONGEST_TIMEOUT_SECONDS:g}")
    return float(timeout_seconds)


def kept_waiting(session_id: str, timeout_seconds: float) -> DeadlineExceeded:
    """The error of a call whose time was up before it was its turn."""
    error = DeadlineExceeded(f"other calls of session {session_id!r} took longer than {timeout_seconds:g} s")
    error.outcome_unknown = False
    return error


def split_pairs(pairs: Iterable[tuple[S, ArrayLike]], kind: type[S], client: Any) -> tuple[list[S], list[ArrayLike]]:
    """The sessions and the values of a call about many."""
    sessions, values = [], []
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], kind):
            raise invalid("pairs", f"expected tuples of a session of this client and its values, got {pair!r}")
        session: Any = pair[0]
        if session._client is not client:
            raise invalid("pairs", f"session {session.id!r} is of another client")
        sessions.append(pair[0])
        values.append(pair[1])
    return sessions, values


def new_core(
    session_id: str,
    model: str,
    model_version: str,
    time_to_live: TimeToLive | None,
    resume_only: bool,
    replay_requests: int,
) -> SessionCore:
    """A session that its first request opens, unless it must exist already."""
    options = messages.open_options(model, model_version, time_to_live)
    memory = Memory(messages.count("replay_requests", replay_requests))
    return SessionCore(messages.text("session_id", session_id), None if resume_only else options, memory)


def observe(
    core: SessionCore,
    values: ArrayLike,
    start_time: Time | None,
    request_id: str | None,
    if_version: Version | None,
    timeout_seconds: float,
) -> Operation[Receipt]:
    """Appends."""
    request = messages.forecast_request(core.session_id, if_version=if_version)
    parts = core.parts(request, messages.observations(values, start_time), request_id)
    return messages.to_receipt((yield from batches.forecast(core, parts, timeout_seconds)))


def step(
    core: SessionCore,
    values: ArrayLike,
    horizon: int,
    quantile_levels: Sequence[float],
    start_time: Time | None,
    request_id: str | None,
    if_version: Version | None,
    timeout_seconds: float,
) -> Operation[Forecast]:
    """Appends, which may be nothing, and forecasts."""
    request = messages.forecast_request(core.session_id, _ahead(horizon), quantile_levels, if_version)
    parts = core.parts(request, messages.observations(values, start_time), request_id)
    return messages.to_forecast((yield from batches.forecast(core, parts, timeout_seconds)))


def forward(
    core: SessionCore,
    values: ArrayLike,
    horizon: int,
    quantile_levels: Sequence[float],
    timeout_seconds: float,
) -> Operation[Forecast | Receipt]:
    """One request of a stream: appends, and forecasts if there is a horizon."""
    if horizon:
        return (yield from step(core, values, horizon, quantile_levels, None, None, None, timeout_seconds))
    return (yield from observe(core, values, None, None, None, timeout_seconds))


def observe_many(pairs: Iterable[tuple[SessionCore, ArrayLike]], timeout_seconds: float) -> Operation[list[Receipt]]:
    """Appends to many sessions."""
    return (yield from _many(pairs, 0, (), messages.to_receipt, timeout_seconds))


def step_many(
    pairs: Iterable[tuple[SessionCore, ArrayLike]],
    horizon: int,
    quantile_levels: Sequence[float],
    timeout_seconds: float,
) -> Operation[list[Forecast]]:
    """Appends to many sessions and forecasts each."""
    return (yield from _many(pairs, _ahead(horizon), quantile_levels, messages.to_forecast, timeout_seconds))


def _many(
    pairs: Iterable[tuple[SessionCore, ArrayLike]],
    horizon: int,
    quantile_levels: Sequence[float],
    convert: Callable[[forecast_service_pb2.ForecastResponse], Any],
    timeout_seconds: float,
) -> Operation[list[Any]]:
    items = []
    for core, values in pairs:
        request = messages.forecast_request(core.session_id, horizon, quantile_levels)
        items.append(Item(core, core.parts(request, messages.observations(values))))
    yield from batches.forecast_many(items, timeout_seconds)
    results = [item.error or convert(item.response or forecast_service_pb2.ForecastResponse()) for item in items]
    if any(isinstance(result, StatecastError) for result in results):
        raise SomeFailed(results)
    return results


def get_session(session_id: str, timeout_seconds: float) -> Operation[SessionInfo]:
    """Looks a session up."""
    message = forecast_service_pb2.GetSessionRequest(session_id=messages.text("session_id", session_id))
    response = yield from calls.exchange(calls.GET_SESSION, message, Patience(timeout_seconds))
    return messages.to_session_info(response.session)


def list_sessions(prefix: str, page_token: str, timeout_seconds: float) -> Operation[tuple[list[SessionInfo], str]]:
    """Lists a page of sessions; also the token of the next page, empty after the last one."""
    message = forecast_service_pb2.ListSessionsRequest(
        prefix=messages.text("prefix", prefix), page_token=page_token, page_size=PAGE_SIZE
    )
    response = yield from calls.exchange(calls.LIST_SESSIONS, message, Patience(timeout_seconds))
    return [messages.to_session_info(session) for session in response.sessions], response.next_page_token


def fork(
    core: SessionCore,
    session_id: str,
    time_to_live: TimeToLive | None,
    if_version: Version | None,
    timeout_seconds: float,
) -> Operation[SessionCore]:
    """Copies a session under a new id."""
    message = messages.fork_request(core.session_id, session_id, time_to_live, if_version, core.version)
    response = yield from calls.exchange(calls.FORK_SESSION, message, Patience(timeout_seconds))
    version = messages.to_version(response.session.version)
    return SessionCore(session_id, None, core.memory.begun_at(version), version, is_open=True)


def close(core: SessionCore, timeout_seconds: float) -> Operation[None]:
    """Makes the server forget a session."""
    yield from calls.close_session(core.session_id, timeout_seconds)
    core.closed()


def list_models(timeout_seconds: float) -> Operation[list[ModelInfo]]:
    """Lists what is loaded."""
    message = model_service_pb2.ListModelsRequest()
    response = yield from calls.exchange(calls.LIST_MODELS, message, Patience(timeout_seconds))
    return [messages.to_model_info(model) for model in response.models]


def get_model(name: str, version: str, timeout_seconds: float) -> Operation[ModelInfo]:
    """Looks a model up."""
    message = model_service_pb2.GetModelRequest(
        name=messages.text("name", name), version=messages.text("version", version)
    )
    response = yield from calls.exchange(calls.GET_MODEL, message, Patience(timeout_seconds))
    return messages.to_model_info(response.model)


def _ahead(horizon: int) -> int:
    if horizon == 0:
        raise invalid("horizon", "0 steps ahead is no forecast; to only append, observe")
    return horizon
