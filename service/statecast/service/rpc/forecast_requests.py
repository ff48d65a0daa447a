"""Converts the message of a Forecast call to the engine's request."""

from collections.abc import Sequence

from statecast.service.engine.request import NO_TIMES, NOTHING, Request, cost
from statecast.service.errors import InvalidRequest
from statecast.service.rpc.engine_client import Call
from statecast.service.rpc.fields import (
    MAX_REQUEST_ID_BYTES,
    to_nanoseconds,
    to_numbers,
    to_request_id,
    to_seconds,
    to_session_id,
    to_times,
    to_version,
)
from statecast.service.rpc.sessions import to_opening
from statecast.service.version import version_of
from statecast.v1.forecast_service_pb2 import ForecastRequest
from statecast.v1.limits import MAX_MAGNITUDE

MAX_QUANTILE_LEVELS = 128
LONGEST_TIMEOUT_SECONDS = 86_400 * 365
_ONE_VALUE_BYTES = 2 + 12
"""Size of a message with one value, without the session's id itself."""
_LONGEST_USUAL_ID = 0x7F
"""The length of a longer session id takes two bytes."""


def to_request(message: ForecastRequest, call: Call) -> Request:
    """Return the request of a Forecast call, or of one in a frame.

    Raises:
        InvalidRequest: if a field is invalid.
        PermissionDenied: if the caller may not append observations.
    """
    return _usual(message, call) or _any(message, call)


def _usual(message: ForecastRequest, call: Call) -> Request | None:
    """Return the request if it appends one value and has none but the usual fields; None if `_any` must look at it.

    Each field that is set adds to the message's size. So if the usual ones make up all of it, no other is set, and
    none of the others need be looked at.

    Raises:
        InvalidRequest: if the options or the timeout are invalid.
    """
    session_id, request_id, values = message.session_id, message.request_id, message.observations.values
    if len(values) != 1 or not call.may_write or not (session_id and session_id.isascii() and session_id.isprintable()):
        return None
    value, horizon, encoded_id = values[0], message.horizon, request_id.encode()
    length, id_bytes = len(session_id), len(encoded_id)
    if abs(value) > MAX_MAGNITUDE or length > _LONGEST_USUAL_ID or id_bytes > MAX_REQUEST_ID_BYTES:
        return None
    rest = message.ByteSize() - _ONE_VALUE_BYTES - length
    if id_bytes:
        rest -= 2 + id_bytes
    if horizon:
        rest -= 2 if horizon < 0x80 else 1 + _varint_bytes(horizon)
    seen = None
    if rest:
        version = message.last_seen
        step, tag = version.step, version.tag
        if step or tag:
            seen = version_of(step, tag)
            rest -= 2 + (1 + _varint_bytes(step) if step else 0) + (9 if tag else 0)
    if rest and rest != _bytes_of_options(message):
        return None
    request = Request.of_one_value(session_id, value, horizon, encoded_id, call.principal.tenant)
    request.last_seen, request.deadline = seen, call.deadline
    if rest:
        _set_options(request, message, call)
    return request


def _set_options(request: Request, message: ForecastRequest, call: Call) -> None:
    """Set what the fields `open` and `timeout` say."""
    if message.HasField("open"):
        request.opening = to_opening(message.open, "open")
    if message.HasField("timeout"):
        request.deadline = call.until(to_timeout(message))


def _bytes_of_options(message: ForecastRequest) -> int:
    """Return the size of the fields `open` and `timeout`."""
    size = 2 + message.open.ByteSize() if message.HasField("open") else 0
    return size + (2 + message.timeout.ByteSize() if message.HasField("timeout") else 0)


def _varint_bytes(number: int) -> int:
    """Return the size of a number other than 0 on the wire."""
    return (number.bit_length() + 6) // 7


def _any(message: ForecastRequest, call: Call) -> Request:
    """Return the request, whatever its fields."""
    has, observations = message.HasField, message.observations
    values, covariates, times = observations.values, observations.covariates, observations.times
    may_write = call.may_write
    if values and not may_write:
        call.require_write("append observations")
    opening = to_opening(message.open, "open") if has("open") else None
    if opening is not None and opening.upgrade:
        call.require_write("upgrade sessions")
    has_start, levels, future = observations.HasField("start_time"), message.quantile_levels, message.future_covariates
    return Request(
        to_session_id(message.session_id),
        opening,
        to_numbers(values, "observations.values") if values else NOTHING,
        to_numbers(covariates, "observations.covariates") if covariates else NOTHING,
        observations.targets,
        to_nanoseconds(observations.start_time, "observations.start_time") if has_start else None,
        to_times(times, len(values), "observations.times") if times else NO_TIMES,
        message.horizon,
        _quantile_levels(levels) if levels else (),
        to_numbers(future, "future_covariates") if future else NOTHING,
        message.explain,
        to_request_id(message.request_id),
        to_version(message.if_version) if has("if_version") else None,
        to_version(message.last_seen) if has("last_seen") else None,
        call.until(to_timeout(message)) if has("timeout") else call.deadline,
        tenant=call.principal.tenant,
        may_open=may_write,
    )


def cost_of(message: ForecastRequest) -> int:
    """Estimate the cost of the message's request."""
    observed = message.observations
    numbers = len(observed.values) + len(observed.covariates) + len(observed.times)
    return cost(numbers, message.horizon, explain=message.explain)


def to_timeout(message: ForecastRequest) -> float | None:
    """Return the timeout of a Forecast call in seconds, if the message has one."""
    if not message.HasField("timeout"):
        return None
    seconds = to_seconds(message.timeout, "timeout")
    if not 0 < seconds <= LONGEST_TIMEOUT_SECONDS:
        raise InvalidRequest("timeout", f"{seconds:g} s; must be more than 0, at most {LONGEST_TIMEOUT_SECONDS} s")
    return seconds


def _quantile_levels(levels: Sequence[float]) -> tuple[float, ...]:
    if len(levels) > MAX_QUANTILE_LEVELS:
        raise InvalidRequest("quantile_levels", f"{len(levels)} levels are more than {MAX_QUANTILE_LEVELS}")
    return tuple(levels)
