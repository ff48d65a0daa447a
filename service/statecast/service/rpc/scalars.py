"""Fields that many messages have: names, numbers, times, versions; one that cannot be right is refused by name."""

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.containers import RepeatedScalarFieldContainer
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from statecast.service.engine.request import NOTHING
from statecast.service.errors import InvalidRequest
from statecast.service.times import NANOSECONDS
from statecast.service.version import Version
from statecast.v1 import forecast_pb2

MAX_SESSION_ID_CHARACTERS = 256
MAX_REQUEST_ID_BYTES = 64
MAX_MODEL_NAME_CHARACTERS = 256
MAX_MAGNITUDE = 1e30
FEW_NUMBERS = 16
START_TIME_SECONDS = (-9_214_560_000, 9_214_646_400)
"""From the beginning of 1678 up to that of 2262: what a signed 64-bit number of nanoseconds can hold."""
TIME_TO_LIVE_SECONDS = (1, 10 * 365 * 86_400)


def to_session_id(session_id: str, field: str = "session_id") -> str:
    """The session id, if it can be one."""
    if not session_id:
        raise InvalidRequest(field, "empty; name the session")
    check_length(session_id, MAX_SESSION_ID_CHARACTERS, field)
    if not session_id.isprintable():
        position = next(at for at, character in enumerate(session_id) if not character.isprintable())
        raise InvalidRequest(field, f"character {position + 1} is not printable")
    return session_id


def to_request_id(request_id: str) -> bytes:
    """The request id, which may be empty."""
    encoded = request_id.encode()
    if len(encoded) > MAX_REQUEST_ID_BYTES:
        raise InvalidRequest("request_id", f"{len(encoded)} bytes are more than {MAX_REQUEST_ID_BYTES}")
    return encoded


def to_model_name(name: str, field: str) -> str:
    """The name or version of a model, if it can be one."""
    check_length(name, MAX_MODEL_NAME_CHARACTERS, field)
    return name


def check_length(text: str, most: int, field: str) -> None:
    """Refuse a text of too many characters."""
    if len(text) > most:
        raise InvalidRequest(field, f"{len(text)} characters are more than {most}")


def to_numbers(numbers: "RepeatedScalarFieldContainer[float]", field: str) -> NDArray[np.float64]:
    """Values of observations or covariates, if all are missing or of an ordinary size."""
    if not numbers:
        return NOTHING
    listed = numbers[:]
    values = np.array(listed)
    # Of a few values Python sees sooner than numpy that none is too large.
    if len(listed) > FEW_NUMBERS:
        listed = values[abs(values) > MAX_MAGNITUDE].tolist()
    for value in listed:
        if abs(value) > MAX_MAGNITUDE:
            raise InvalidRequest(
                f"{field}[{int(np.flatnonzero(abs(values) > MAX_MAGNITUDE)[0])}]",
                f"{value:g} is not allowed: at most {MAX_MAGNITUDE:g} in magnitude, or NaN if missing",
            )
    return values


def to_version(version: forecast_pb2.Version) -> Version:
    """Where a session stands."""
    return Version(version.step, version.tag)


def from_version(version: Version | None) -> forecast_pb2.Version | None:
    """The version on the wire."""
    return None if version is None else forecast_pb2.Version(step=version.step, tag=version.tag)


def to_ttl_ms(time_to_live: Duration, field: str) -> int:
    """A time to live, if it is not too short or too long."""
    seconds = to_seconds(time_to_live, field)
    least, most = TIME_TO_LIVE_SECONDS
    if not least <= seconds <= most:
        raise InvalidRequest(field, f"{seconds:g} s is outside {least} s .. {most} s (ten years)")
    return round(seconds * 1000)


def to_seconds(duration: Duration, field: str) -> float:
    """A duration, if it is one and not negative."""
    if not 0 <= duration.nanos < NANOSECONDS or duration.seconds < 0:
        raise InvalidRequest(field, "negative, or not a duration: nanos must be from 0 to 999,999,999")
    return duration.seconds + duration.nanos / NANOSECONDS


def to_nanoseconds(time: Timestamp, field: str) -> int:
    """A time, if nanoseconds can count it."""
    earliest, latest = START_TIME_SECONDS
    if not 0 <= time.nanos < NANOSECONDS or not earliest <= time.seconds < latest:
        raise InvalidRequest(field, "not a time of the years 1678 to 2261")
    return time.seconds * NANOSECONDS + time.nanos


def from_nanoseconds(time_ns: int | None) -> Timestamp | None:
    """The time on the wire."""
    if time_ns is None:
        return None
    seconds, nanos = divmod(time_ns, NANOSECONDS)
    return Timestamp(seconds=seconds, nanos=nanos)
