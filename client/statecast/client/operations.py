"""What both clients say in the same words: from arguments to operations, and from outcomes to results."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from statecast.v1 import forecast_service_pb2, model_service_pb2

from . import calls, messages
from .calls import Item, Operation, Patience, SessionCore
from .errors import SomeFailed, StatecastError, invalid
from .messages import Time, TimeToLive
from .types import Forecast, ModelInfo, Receipt, SessionInfo, Version

T = TypeVar("T")
S = TypeVar("S")

LONGEST_TIMEOUT_SECONDS = 1e6


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


def split_pairs(pairs: Iterable[tuple[S, ArrayLike]], kind: type[S]) -> tuple[list[S], list[ArrayLike]]:
    """The sessions and the values of a call about many."""
    sessions, values = [], []
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], kind):
            raise invalid("pairs", f"expected tuples of a session of this client and its values, got {pair!r}")
        sessions.append(pair[0])
        values.append(pair[1])
    return sessions, values


def new_core(
    session_id: str, model: str, model_version: str, time_to_live: TimeToLive | None, resume_only: bool
) -> SessionCore:
    """A session that its first request opens, unless it must exist already."""
    options = messages.open_options(model, model_version, time_to_live)
    return SessionCore(messages.text("session_id", session_id), None if resume_only else options)


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
    return messages.to_receipt((yield from calls.forecast(core, parts, timeout_seconds)))


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
    return messages.to_forecast((yield from calls.forecast(core, parts, timeout_seconds)))


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
    yield from calls.forecast_many(items, timeout_seconds)
    results = [item.error or convert(item.response or forecast_service_pb2.ForecastResponse()) for item in items]
    if any(isinstance(result, StatecastError) for result in results):
        raise SomeFailed(results)
    return results


def get_session(session_id: str, timeout_seconds: float) -> Operation[SessionInfo]:
    """Looks a session up."""
    message = forecast_service_pb2.GetSessionRequest(session_id=messages.text("session_id", session_id))
    response = yield from calls.exchange(calls.GET_SESSION, message, Patience(timeout_seconds))
    return messages.to_session_info(response.session)


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
