"""Converts the message of a Forecast call to the engine's request."""

from collections.abc import Sequence

from statecast.service.engine.request import NO_TIMES, NOTHING, Request, cost
from statecast.service.errors import InvalidRequest
from statecast.service.rpc.engine_client import Call
from statecast.service.rpc.fields import (
    to_nanoseconds,
    to_numbers,
    to_request_id,
    to_seconds,
    to_session_id,
    to_times,
    to_version,
)
from statecast.service.rpc.sessions import to_opening
from statecast.v1.forecast_service_pb2 import ForecastRequest

MAX_QUANTILE_LEVELS = 128
LONGEST_TIMEOUT_SECONDS = 86_400 * 365


def to_request(message: ForecastRequest, call: Call) -> Request:
    """Return the request of a Forecast call, or of one in a frame.

    Raises:
        InvalidRequest: if a field is invalid.
        PermissionDenied: if the caller may not append observations.
    """
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
