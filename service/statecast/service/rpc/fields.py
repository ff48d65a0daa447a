"""Converts fields that many messages share: names, numbers, times, versions. Errors name the invalid field."""

import math

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, RepeatedScalarFieldContainer
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from statecast.model import Frequency, FrequencyError, TimeZoneError, Zone
from statecast.model.zones import LONGEST_NAME
from statecast.service.engine.request import NO_TIMES, NOTHING
from statecast.service.errors import InvalidRequest, quoted
from statecast.service.models.policies import ALIAS, AT, split_alias
from statecast.service.times import NANOSECONDS
from statecast.service.version import Version, version_of
from statecast.v1 import forecast_pb2
from statecast.v1.limits import MAX_MAGNITUDE

MAX_SESSION_ID_CHARACTERS = 256
MAX_REQUEST_ID_BYTES = 64
MAX_MODEL_NAME_CHARACTERS = 256
FEW_NUMBERS = 16
MAX_TIMES = 100_000
"""Each is a separate message, which costs the event loop a fraction of a microsecond."""
START_TIME_SECONDS = (-9_214_560_000, 9_214_646_400)
"""From 1678 until 2262, the range of a signed 64-bit number of nanoseconds."""
MAX_AHEAD_SECONDS = 1000 * 365 * 86_400
MAX_FREQUENCY_CHARACTERS = 32
TIME_TO_LIVE_SECONDS = (1, 10 * 365 * 86_400)


def to_session_id(session_id: str, field: str = "session_id") -> str:
    """Return the session id, if it is valid."""
    if not session_id:
        raise InvalidRequest(field, "empty; name the session")
    check_length(session_id, MAX_SESSION_ID_CHARACTERS, field)
    if not session_id.isprintable():
        position = next(at for at, character in enumerate(session_id) if not character.isprintable())
        raise InvalidRequest(field, f"character {position + 1} is not printable; use printable characters only")
    return session_id


def to_request_id(request_id: str) -> bytes:
    """Return the request id, which may be empty, as bytes."""
    encoded = request_id.encode()
    if len(encoded) > MAX_REQUEST_ID_BYTES:
        raise InvalidRequest("request_id", f"{len(encoded)} bytes are more than {MAX_REQUEST_ID_BYTES}; use a UUID")
    return encoded


def to_model_name(name: str, field: str) -> str:
    """Return the name or version of a model, if it is valid."""
    check_length(name, MAX_MODEL_NAME_CHARACTERS, field)
    return name


def to_model_reference(name: str, version: str, field: str) -> tuple[str, str]:
    """Return the model and the alias of NAME or NAME@ALIAS, if they are valid; an alias excludes a version."""
    model, alias = split_alias(to_model_name(name, field))
    if AT in name and not ALIAS.fullmatch(alias):
        raise InvalidRequest(field, f"{quoted(alias)} is no alias: write NAME@ALIAS, with letters, digits and . _ + -")
    if alias and version:
        raise InvalidRequest(f"{field}_version", f"given together with alias {quoted(alias)}; leave out one of the two")
    return model, alias


def check_length(text: str, most: int, field: str) -> None:
    """Refuse a text that is too long."""
    if len(text) > most:
        raise InvalidRequest(field, f"{len(text)} characters are more than {most}")


def to_numbers(numbers: "RepeatedScalarFieldContainer[float]", field: str) -> NDArray[np.float64]:
    """Return the values of observations or covariates, if none is too large."""
    if not numbers:
        return NOTHING
    listed = numbers[:]
    values = np.array(listed)
    # Python checks a few values faster than numpy.
    if len(listed) == 1:
        is_checked = not abs(listed[0]) > MAX_MAGNITUDE  # NaN compares as false
    else:
        is_checked = len(listed) <= FEW_NUMBERS and not any(abs(value) > MAX_MAGNITUDE for value in listed)
    if not is_checked:
        position = first_too_large(values)
        if position is not None:
            raise InvalidRequest(f"{field}[{position}]", too_large(values[position]))
    return values


def first_too_large(values: NDArray[np.float64]) -> int | None:
    """Return the position of the first value that is too large; None if there is none."""
    wrong = np.flatnonzero(abs(values) > MAX_MAGNITUDE)  # NaN compares as false
    return int(wrong[0]) if wrong.size else None


def too_large(value: float) -> str:
    """Return what is wrong with a value that is too large."""
    return f"{value:g} is too large: at most {MAX_MAGNITUDE:g} in magnitude, or NaN if missing"


def to_version(version: forecast_pb2.Version) -> Version:
    """Return a version from the wire."""
    return version_of(version.step, version.tag)


def from_version(version: Version | None) -> forecast_pb2.Version | None:
    """Return the version for the wire."""
    return None if version is None else forecast_pb2.Version(step=version.step, tag=version.tag)


def to_ttl_ms(time_to_live: Duration, field: str) -> int:
    """Return a time to live, if it is not too short or too long."""
    seconds = to_seconds(time_to_live, field)
    least, most = TIME_TO_LIVE_SECONDS
    if not least <= seconds <= most:
        raise InvalidRequest(field, f"{seconds:g} s is outside {least} s .. {most} s (ten years)")
    return round(seconds * 1000)


def to_max_ahead_ms(max_ahead: Duration, field: str) -> int:
    """Return the limit on how far ahead observations may be dated, if it is valid; 0 for no limit."""
    seconds = to_seconds(max_ahead, field)
    if seconds > MAX_AHEAD_SECONDS:
        raise InvalidRequest(
            field, f"{seconds:g} s is more than {MAX_AHEAD_SECONDS} s (1,000 years); use 0 for no limit"
        )
    return math.ceil(seconds * 1000)


def to_zone(name: str, field: str) -> Zone:
    """Return the time zone of that name, if there is one."""
    check_length(name, LONGEST_NAME, field)
    try:
        return Zone.parse(name)
    except TimeZoneError as error:
        raise InvalidRequest(field, str(error)) from error


def to_frequency(alias: str, field: str) -> Frequency | None:
    """Return the frequency of that pandas alias, if it is valid; None for an empty one."""
    check_length(alias, MAX_FREQUENCY_CHARACTERS, field)
    try:
        return Frequency.parse(alias) if alias else None
    except FrequencyError as error:
        raise InvalidRequest(field, f"{error}; give an alias such as 'h', '15min', 'D' or 'MS'") from error


def to_seconds(duration: Duration, field: str) -> float:
    """Return a duration in seconds, if it is valid and not negative."""
    if not 0 <= duration.nanos < NANOSECONDS or duration.seconds < 0:
        raise InvalidRequest(field, "negative, or not a duration: nanos must be from 0 to 999,999,999")
    return duration.seconds + duration.nanos / NANOSECONDS


def to_nanoseconds(time: Timestamp, field: str, row: int | None = None) -> int:
    """Return a time in nanoseconds, if it is in their range; `row` is its position in a repeated field."""
    earliest, latest = START_TIME_SECONDS
    seconds, nanos = time.seconds, time.nanos
    if not 0 <= nanos < NANOSECONDS or not earliest <= seconds < latest:
        place = field if row is None else f"{field}[{row}]"
        raise InvalidRequest(place, f"{seconds} s and {nanos} ns since 1970 are not a time in the years 1678 to 2261")
    return seconds * NANOSECONDS + nanos


def check_nanoseconds(time_ns: int, field: str) -> int:
    """Return a time in nanoseconds, if it is in their range."""
    seconds, nanos = divmod(time_ns, NANOSECONDS)
    return to_nanoseconds(Timestamp(seconds=seconds, nanos=nanos), field)


def to_times(times: "RepeatedCompositeFieldContainer[Timestamp]", values: int, field: str) -> NDArray[np.int64]:
    """Return times in nanoseconds, if they are valid and no more than the values or the limit."""
    if not times:
        return NO_TIMES
    if len(times) > min(values, MAX_TIMES):
        most = f"{values} values" if values < MAX_TIMES else f"{MAX_TIMES} that one request may have"
        raise InvalidRequest(field, f"{len(times)} times are more than the {most}; give one for each row")
    return np.array([to_nanoseconds(time, field, row) for row, time in enumerate(times)], np.int64)


def from_milliseconds(milliseconds: int) -> Duration:
    """Return the duration for the wire."""
    duration = Duration()
    duration.FromMilliseconds(milliseconds)
    return duration


def from_nanoseconds(time_ns: int | None) -> Timestamp | None:
    """Return the time for the wire."""
    if time_ns is None:
        return None
    seconds, nanos = divmod(time_ns, NANOSECONDS)
    return Timestamp(seconds=seconds, nanos=nanos)
