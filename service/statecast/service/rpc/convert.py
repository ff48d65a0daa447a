"""Between messages and the engine's requests and outcomes; a field that cannot be right is refused by name."""

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from statecast.service.engine.request import (
    NOTHING,
    ForecastResult,
    Fork,
    Opening,
    Outcome,
    Request,
    SessionInfo,
    cost,
)
from statecast.service.errors import InvalidRequest
from statecast.service.registry import Model
from statecast.service.store.catalog import Listing, Summary
from statecast.service.times import NANOSECONDS
from statecast.service.version import Version
from statecast.v1 import forecast_pb2, forecast_service_pb2, model_service_pb2

MAX_SESSION_ID_CHARACTERS = 256
MAX_REQUEST_ID_BYTES = 64
MAX_QUANTILE_LEVELS = 128
MAX_MODEL_NAME_CHARACTERS = 256
MAX_MAGNITUDE = 1e30
USUAL_PAGE, LARGEST_PAGE = 100, 1000
LONGEST_TIMEOUT_SECONDS = 86_400 * 365
MAX_CURSOR = 2**64 - 1
START_TIME_SECONDS = (-9_214_560_000, 9_214_646_400)
"""From the beginning of 1678 up to that of 2262: what a signed 64-bit number of nanoseconds can hold."""
TIME_TO_LIVE_SECONDS = (1, 10 * 365 * 86_400)


def to_request(message: forecast_service_pb2.ForecastRequest) -> Request:
    """The request of a Forecast call.

    Raises:
        InvalidRequest: naming the field that is wrong.
    """
    values, start_time = _observations(message.observations)
    return Request(
        session_id=to_session_id(message.session_id),
        opening=to_opening(message.open, "open") if message.HasField("open") else None,
        values=values,
        width=message.observations.targets,
        start_time=start_time,
        horizon=message.horizon,
        quantile_levels=_quantile_levels(message),
        request_id=_request_id(message.request_id),
        if_version=_version(message.if_version) if message.HasField("if_version") else None,
        last_seen=_version(message.last_seen) if message.HasField("last_seen") else None,
    )


def cost_of(message: forecast_service_pb2.ForecastRequest) -> int:
    """The cost of the request that the message will become."""
    return cost(len(message.observations.values), message.horizon)


def to_timeout(message: forecast_service_pb2.ForecastRequest) -> float | None:
    """How many seconds the caller of a Forecast call waits, if the message tells."""
    if not message.HasField("timeout"):
        return None
    seconds = _seconds(message.timeout, "timeout")
    if not 0 < seconds <= LONGEST_TIMEOUT_SECONDS:
        raise InvalidRequest("timeout", f"{seconds:g} s is not more than 0 and at most {LONGEST_TIMEOUT_SECONDS} s")
    return seconds


def to_closing(message: forecast_service_pb2.CloseSessionRequest) -> Request:
    """The request of a CloseSession call."""
    if_version = _version(message.if_version) if message.HasField("if_version") else None
    return Request(to_session_id(message.session_id), if_version=if_version, close=True)


def to_fork(message: forecast_service_pb2.ForkSessionRequest) -> tuple[Request, Request]:
    """What a ForkSession call asks of the source, and of the session to make."""
    source_id = to_session_id(message.source_session_id, "source_session_id")
    if_version = _version(message.if_version) if message.HasField("if_version") else None
    ttl_ms = _ttl_ms(message.time_to_live, "time_to_live") if message.HasField("time_to_live") else None
    target = Request(
        to_session_id(message.session_id),
        request_id=_request_id(message.request_id),
        fork=Fork(source_id, ttl_ms=ttl_ms),
    )
    last_seen = _version(message.last_seen) if message.HasField("last_seen") else None
    return Request(source_id, if_version=if_version, last_seen=last_seen, copy=True), target


def to_listing(message: forecast_service_pb2.ListSessionsRequest) -> Listing:
    """Which page a ListSessions call asks for."""
    if message.page_size > LARGEST_PAGE:
        raise InvalidRequest("page_size", f"{message.page_size} is more than {LARGEST_PAGE}")
    token = message.page_token
    if token and not (len(token) <= len(str(MAX_CURSOR)) and token.isascii() and token.isdigit()):
        raise InvalidRequest("page_token", "not the next_page_token of an earlier page")
    if len(message.prefix) > MAX_SESSION_ID_CHARACTERS:
        raise InvalidRequest("prefix", f"{len(message.prefix)} characters are more than {MAX_SESSION_ID_CHARACTERS}")
    return Listing(message.prefix, int(token or "0"), message.page_size or USUAL_PAGE)


def to_session_id(session_id: str, field: str = "session_id") -> str:
    """The session id, if it can be one."""
    if not session_id:
        raise InvalidRequest(field, "empty; name the session")
    if len(session_id) > MAX_SESSION_ID_CHARACTERS:
        raise InvalidRequest(field, f"{len(session_id)} characters are more than {MAX_SESSION_ID_CHARACTERS}")
    if not session_id.isprintable():
        position = next(at for at, character in enumerate(session_id) if not character.isprintable())
        raise InvalidRequest(field, f"character {position + 1} is not printable")
    return session_id


def to_opening(options: forecast_pb2.OpenOptions, field: str) -> Opening:
    """How to open a session; `field` is where the options stand in the request."""
    model = to_model_name(options.model, f"{field}.model")
    model_version = to_model_name(options.model_version, f"{field}.model_version")
    if not options.HasField("time_to_live"):
        return Opening(model, model_version)
    return Opening(model, model_version, _ttl_ms(options.time_to_live, f"{field}.time_to_live"))


def to_model_name(name: str, field: str) -> str:
    """The name or version of a model, if it can be one."""
    if len(name) > MAX_MODEL_NAME_CHARACTERS:
        raise InvalidRequest(field, f"{len(name)} characters are more than {MAX_MODEL_NAME_CHARACTERS}")
    return name


def to_response(request: Request, outcome: Outcome) -> forecast_service_pb2.ForecastResponse:
    """The response of a Forecast call."""
    return forecast_service_pb2.ForecastResponse(
        session_id=request.session_id,
        request_id=request.request_id.decode(),
        version=from_version(outcome.version),
        opened=outcome.opened,
        replayed=outcome.replayed,
        forecast=_forecast(outcome.forecast) if outcome.forecast else None,
    )


def from_outcome(session_id: str, outcome: Outcome) -> forecast_pb2.Session:
    """The session after a request, as its caller sees it."""
    return _session(session_id, outcome.version, outcome.session)


def from_summary(summary: Summary) -> forecast_pb2.Session:
    """The session as it is listed."""
    if summary.record is None:
        return forecast_pb2.Session(session_id=summary.session_id)
    snapshot, newest = summary.record.snapshot, summary.record.newest
    info = SessionInfo(snapshot.model, snapshot.model_version, snapshot.ttl_ms, newest.last_time)
    return _session(summary.session_id, newest.version, info)


def from_version(version: Version | None) -> forecast_pb2.Version | None:
    """The version on the wire."""
    return None if version is None else forecast_pb2.Version(step=version.step, tag=version.tag)


def from_model(model: Model) -> model_service_pb2.Model:
    """The model as a caller sees it."""
    config = model.config
    return model_service_pb2.Model(
        name=config.name,
        version=config.version,
        digest=model.digest,
        frequency=config.frequency,
        targets=config.targets,
        horizon=config.horizon,
        quantile_levels=config.quantile_levels,
        cell=config.cell,
        layers=config.layers,
        hidden_size=config.hidden_size,
        window=config.window,
        state_bytes=model.forecaster.layout.nbytes,
    )


def _observations(message: forecast_pb2.Observations) -> tuple[NDArray[np.float64], int | None]:
    start_time = _nanoseconds(message.start_time) if message.HasField("start_time") else None
    if not message.values:
        return NOTHING, start_time
    values = np.array(message.values, np.float64)
    wrong = np.flatnonzero(np.abs(values) > MAX_MAGNITUDE)
    if wrong.size:
        at = int(wrong[0])
        raise InvalidRequest(
            f"observations.values[{at}]",
            f"{values[at]:g} is not allowed: at most {MAX_MAGNITUDE:g} in magnitude, or NaN if missing",
        )
    return values, start_time


def _session(session_id: str, version: Version | None, info: SessionInfo) -> forecast_pb2.Session:
    time_to_live = Duration()
    time_to_live.FromMilliseconds(info.ttl_ms)
    return forecast_pb2.Session(
        session_id=session_id,
        model=info.model,
        model_version=info.model_version,
        version=from_version(version),
        time_to_live=time_to_live,
        last_time=_timestamp(info.last_time),
    )


def _ttl_ms(time_to_live: Duration, field: str) -> int:
    seconds = _seconds(time_to_live, field)
    least, most = TIME_TO_LIVE_SECONDS
    if not least <= seconds <= most:
        raise InvalidRequest(field, f"{seconds:g} s is outside {least} s .. {most} s (ten years)")
    return round(seconds * 1000)


def _seconds(duration: Duration, field: str) -> float:
    if not 0 <= duration.nanos < NANOSECONDS or duration.seconds < 0:
        raise InvalidRequest(field, "negative, or not a duration: nanos must be from 0 to 999,999,999")
    return duration.seconds + duration.nanos / NANOSECONDS


def _quantile_levels(message: forecast_service_pb2.ForecastRequest) -> tuple[float, ...]:
    levels = tuple(message.quantile_levels)
    if len(levels) > MAX_QUANTILE_LEVELS:
        raise InvalidRequest("quantile_levels", f"{len(levels)} levels are more than {MAX_QUANTILE_LEVELS}")
    return levels


def _request_id(request_id: str) -> bytes:
    encoded = request_id.encode()
    if len(encoded) > MAX_REQUEST_ID_BYTES:
        raise InvalidRequest("request_id", f"{len(encoded)} bytes are more than {MAX_REQUEST_ID_BYTES}")
    return encoded


def _version(version: forecast_pb2.Version) -> Version:
    return Version(version.step, version.tag)


def _forecast(forecast: ForecastResult) -> forecast_pb2.Forecast:
    return forecast_pb2.Forecast(
        start_time=_timestamp(forecast.start_time),
        horizon=len(forecast.values),
        quantile_levels=forecast.quantile_levels,
        targets=forecast.targets,
        values=forecast.values.ravel(),
        frequency=forecast.frequency,
    )


def _nanoseconds(time: Timestamp) -> int:
    earliest, latest = START_TIME_SECONDS
    if not 0 <= time.nanos < NANOSECONDS or not earliest <= time.seconds < latest:
        raise InvalidRequest("observations.start_time", "not a time of the years 1678 to 2261")
    return time.seconds * NANOSECONDS + time.nanos


def _timestamp(time_ns: int | None) -> Timestamp | None:
    if time_ns is None:
        return None
    seconds, nanos = divmod(time_ns, NANOSECONDS)
    return Timestamp(seconds=seconds, nanos=nanos)
