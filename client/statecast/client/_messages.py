"""Converts Python values to request messages and responses back; refuses values that cannot be sent, by field."""

import operator
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta, tzinfo
from functools import lru_cache
from math import nan
from typing import TypeAlias, TypeVar

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from statecast.v1 import forecast_pb2, forecast_service_pb2, model_service_pb2
from statecast.v1.limits import MAX_MAGNITUDE

from ._arrays import covariate_rows, numbers
from ._ask import Ask, Numbers, Observations
from ._request import Block, Options, Request, one_value, to_block
from ._response import NO_FORECAST, Response
from ._times import UNDATED, Dated, Instants
from ._zones import as_datetime, zone_name
from .errors import invalid
from .types import Forecast, ModelInfo, Receipt, SessionInfo, Upgraded, Version

T = TypeVar("T")
Span: TypeAlias = timedelta | float
"""A length of time; a number is in seconds."""

# A flat list is cut at whole time steps if the number of targets divides this (1 to 10, 12, 14, 15, ...).
MAX_VALUES_A_REQUEST = 7560
_MAX_UINT32 = 2**32 - 1
# Long enough: a session remembers only its last 16 requests, so ids need only differ among these.
REQUEST_ID_BYTES = 8


def open_options(
    model: str,
    model_version: str,
    time_to_live: Span | None,
    categories: Mapping[str, str] | None = None,
    time_zone: str | tzinfo = "",
    max_ahead: Span | None = None,
    frequency: str = "",
    *,
    upgrade: bool = False,
) -> forecast_pb2.OpenOptions:
    """Return the options for opening a session."""
    zone = zone_name(time_zone) if isinstance(time_zone, tzinfo) else text("open.time_zone", time_zone)
    options = forecast_pb2.OpenOptions(
        model=text("model", model),
        model_version=text("model_version", model_version),
        time_zone=zone,
        frequency=text("open.frequency", frequency),
        upgrade=bool(upgrade),
    )
    if max_ahead is not None:
        options.max_ahead.CopyFrom(_duration("open.max_ahead", max_ahead))
    if time_to_live is not None:
        options.time_to_live.CopyFrom(_duration("open.time_to_live", time_to_live))
    if categories is not None:
        if not isinstance(categories, Mapping):
            raise invalid("open.categories", f"{categories!r} is not a mapping of names to values")
        for name, value in categories.items():
            options.categories[text("open.categories", name)] = text(f"open.categories[{name!r}]", value)
    return options


def observations(observed: Observations, when: Dated = UNDATED) -> list[Block]:
    """Cut observations into blocks that fit into one request each; at least one, which may be empty.

    Args:
        observed: Values and covariates.
        when: Their times.
    """
    values = observed.values
    plain = isinstance(values, float | int) and observed.covariates is None and when is UNDATED
    if plain and not abs(values) > MAX_MAGNITUDE:  # type: ignore[arg-type]
        return [one_value(values)]  # type: ignore[arg-type]  # without an array
    messages = _blocks(observed, when.times)
    if when.start is not None:
        messages[0].start_time.CopyFrom(_timestamp("observations.start_time", when.start))
    return [to_block(message, [time.ToNanoseconds() for time in message.times]) for message in messages]


def _blocks(observed: Observations, times: Instants) -> list[forecast_pb2.Observations]:
    """Cut observations into messages; start times are left out."""
    array = numbers("observations.values", observed.values, "targets")
    rows = array.reshape(-1, 1) if array.ndim < 2 else array
    width = array.shape[1] if array.ndim == 2 else 0
    known = np.empty((len(rows), 0))
    if observed.covariates is not None:
        what, field = "time steps of the values", "observations.covariates"
        known = covariate_rows(field, observed.covariates, len(rows), what, is_one_row=array.ndim == 0)
        width = rows.shape[1]  # or the server might read a flat list as fewer rows of several targets
    if times.size and times.size != len(rows):
        if width or len(rows) % times.size:
            raise invalid("observations.times", f"expected a time for each of {len(rows)} rows, got {times.size}")
        # A flat list may hold several targets for each time.
        rows = rows.reshape(times.size, -1)
    block = max(1, MAX_VALUES_A_REQUEST // max(1, rows.shape[1] + known.shape[1]))
    return [
        forecast_pb2.Observations(
            values=rows[part].ravel().tolist(),
            targets=width,
            covariates=known[part].ravel().tolist(),
            times=[_timestamp("observations.times", time) for time in times[part].tolist()],
        )
        for part in (slice(start, start + block) for start in range(0, max(1, len(rows)), block))
    ]


def halves(part: Request) -> tuple[Request, Request]:
    """Return two requests that together append what one does; the second one forecasts."""
    observed = forecast_pb2.Observations.FromString(part.block.encoded)
    rows = len(observed.times)
    half, width, covariates = rows // 2, len(observed.values) // rows, len(observed.covariates) // rows
    blocks = [
        to_block(
            forecast_pb2.Observations(
                values=observed.values[chosen.start * width : chosen.stop * width],
                targets=observed.targets,
                covariates=observed.covariates[chosen.start * covariates : chosen.stop * covariates],
                times=observed.times[chosen],
            ),
            part.block.times[chosen],
        )
        for chosen in (slice(0, half), slice(half, rows))
    ]
    first = Request(part.session_id, new_request_id(), blocks[0], opening=part.opening, if_version=part.if_version)
    return first, Request(part.session_id, new_request_id(), blocks[1], part.options)


def options(ask: Ask, future_covariates: Numbers | None = None) -> Options:
    """Return what to answer; check `if_version` as well."""
    if ask.if_version is not None:
        version_message(ask.if_version)
    levels = ask.quantile_levels
    are_own = isinstance(levels, tuple) and not levels
    if future_covariates is None and are_own and not ask.explain and type(ask.horizon) is int:
        return _plain_options(ask.horizon)
    horizon = count("horizon", ask.horizon)
    request = forecast_service_pb2.ForecastRequest(horizon=horizon, explain=bool(ask.explain))
    if not are_own:
        try:
            request.quantile_levels.extend(float(level) for level in levels)
        except (TypeError, ValueError) as error:
            raise invalid("quantile_levels", f"{levels!r} is not a sequence of numbers") from error
    if future_covariates is not None:
        ahead = covariate_rows("future_covariates", future_covariates, horizon, "steps of the horizon")
        request.future_covariates.extend(ahead.ravel().tolist())
    return Options(request.SerializeToString(), len(request.future_covariates))


@lru_cache(maxsize=256)
def _plain_options(horizon: int) -> Options:
    horizon = count("horizon", horizon)
    return Options(forecast_service_pb2.ForecastRequest(horizon=horizon).SerializeToString())


def fork_request(
    source_id: str,
    session_id: str,
    time_to_live: Span | None,
    if_version: Version | None,
    last_seen: Version | None,
) -> forecast_service_pb2.ForkSessionRequest:
    """Return a request to copy a session."""
    request = forecast_service_pb2.ForkSessionRequest(
        source_session_id=source_id, session_id=text("session_id", session_id), request_id=new_request_id()
    )
    if time_to_live is not None:
        request.time_to_live.CopyFrom(_duration("time_to_live", time_to_live))
    if if_version is not None:
        request.if_version.CopyFrom(version_message(if_version))
    if last_seen is not None:
        request.last_seen.CopyFrom(version_message(last_seen))
    return request


def upgrade_request(
    session_id: str,
    model: str,
    model_version: str,
    blocks: Sequence[Block],
    since: Version | None,
    ask: Ask,
    last_seen: Version | None,
) -> forecast_service_pb2.UpgradeSessionRequest:
    """Return a request to move a session; the blocks together are its observations."""
    request = forecast_service_pb2.UpgradeSessionRequest(
        session_id=session_id,
        model=text("model", model),
        model_version=text("model_version", model_version),
        request_id=text("request_id", ask.request_id) if ask.request_id else new_request_id(),
    )
    for block in blocks:
        request.observations.MergeFromString(block.encoded)
    for name, version in (("since", since), ("if_version", ask.if_version), ("last_seen", last_seen)):
        if version is not None:
            getattr(request, name).CopyFrom(version_message(version, name))
    return request


def new_request_id() -> str:
    """Return a new random request id."""
    return os.urandom(REQUEST_ID_BYTES).hex()


def count(field: str, value: int) -> int:
    """Return the value as a count; refuse anything but a whole number in range."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise invalid(field, f"{value!r} is not a whole number") from error
    if not 0 <= number <= _MAX_UINT32:
        raise invalid(field, f"{number} is out of range")
    return number


def text(field: str, value: str) -> str:
    """Return the value; refuse it if it cannot be sent as text."""
    if not isinstance(value, str):
        raise invalid(field, f"{value!r} is not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise invalid(field, f"{value!r} holds half a character") from error
    return value


def version_message(version: Version, field: str = "if_version") -> forecast_pb2.Version:
    """Convert a version to its message."""
    if not isinstance(version, Version):
        raise invalid(field, f"{version!r} is not a Version")
    try:
        return forecast_pb2.Version(step=version.step, tag=version.tag)
    except (TypeError, ValueError) as error:
        raise invalid(field, f"{version!r} is out of range") from error


def to_version(message: forecast_pb2.Version) -> Version:
    """Convert a version message to a plain value."""
    return Version(message.step, message.tag)


def merged(parts: Sequence[Request], answers: Sequence[Response]) -> Response:
    """Return the last part's answer, with `opened` and `pit` of all parts; the pit of a replayed part is NaN."""
    last = answers[-1]
    if len(answers) > 1:
        last.opened = any(answer.opened for answer in answers)
        if any(answer.pit is not None for answer in answers):
            pieces = zip(parts, answers, strict=True)
            last.pit = np.concatenate([_pit_or_nan(part, answer) for part, answer in pieces])
    return last


def _pit_or_nan(part: Request, answer: Response) -> NDArray[np.float32]:
    return np.full(part.block.values, nan, np.float32) if answer.pit is None else answer.pit


def to_receipt(response: Response, targets: int = 0) -> Receipt:
    """Convert the response to a request without a horizon; `targets` is its number of columns, 0 for a flat list."""
    return Receipt(
        version=response.version,
        opened=response.opened,
        replayed=response.replayed,
        pit=_rows(response.pit, targets or 1),
        gates=response.gates,
    )


def to_forecast(response: Response) -> Forecast:
    """Convert the response to a request with a horizon."""
    outline, values, start_time = response.forecast or NO_FORECAST
    forecast = object.__new__(Forecast)  # its constructor, that of a frozen dataclass, takes three times as long
    forecast.__dict__.update(
        outline.fields,
        session_id=response.session_id,
        version=response.version,
        opened=response.opened,
        replayed=response.replayed,
        start_time=start_time,
        values=values,
        pit=_rows(response.pit, outline.targets),
        gates=response.gates,
    )
    return forecast


def _rows(pit: NDArray[np.float32] | None, targets: int) -> NDArray[np.float32] | None:
    return None if pit is None else pit.reshape(-1, targets)


def to_session_info(message: forecast_pb2.Session) -> SessionInfo:
    """Convert a session message to a plain value."""
    return SessionInfo(
        session_id=message.session_id,
        model=message.model,
        model_version=message.model_version,
        version=to_version(message.version),
        time_to_live=message.time_to_live.ToTimedelta(),
        last_time=as_datetime(message.last_time, message.time_zone) if message.HasField("last_time") else None,
        categories=dict(message.categories),
        time_zone=message.time_zone,
        max_ahead=message.max_ahead.ToTimedelta() if message.HasField("max_ahead") else None,
        frequency=message.frequency,
        alias=message.alias,
    )


def to_upgraded(message: forecast_service_pb2.UpgradeSessionResponse) -> Upgraded:
    """Convert the response to an upgrade to a plain value."""
    session = message.session
    return Upgraded(
        version=to_version(session.version),
        model=session.model,
        model_version=session.model_version,
        reencoded_steps=message.reencoded_steps,
        exact=message.exact,
        replayed=message.replayed,
    )


def to_model_info(message: model_service_pb2.Model) -> ModelInfo:
    """Convert a model message to a plain value."""
    return ModelInfo(
        name=message.name,
        version=message.version,
        digest=message.digest,
        frequency=message.frequency,
        targets=tuple(message.targets),
        horizon=message.horizon,
        quantile_levels=tuple(message.quantile_levels),
        cell=message.cell,
        layers=message.layers,
        hidden_size=message.hidden_size,
        window=message.window,
        state_bytes=message.state_bytes,
        covariates=tuple(message.covariates),
        categories={category.name: tuple(category.values) for category in message.categories},
        classes=tuple(message.classes),
        adaptive=message.adaptive,
        aliases=tuple(message.aliases),
        policy=message.policy or "pin",
        retired=message.retired,
    )


def _duration(field: str, span: Span) -> Duration:
    duration = Duration()
    try:
        duration.FromTimedelta(span if isinstance(span, timedelta) else timedelta(seconds=span))
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(field, f"{span!r} is neither seconds nor a timedelta") from error
    return duration


def _timestamp(field: str, time: int) -> Timestamp:
    message = Timestamp()
    try:
        message.FromNanoseconds(time)
    except ValueError as error:
        raise invalid(field, f"{time} ns since 1970 is not a time of the years 1678 to 2261") from error
    return message
