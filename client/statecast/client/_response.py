"""Responses to requests that append and forecast, read straight from their bytes where these have the usual form.

The usual form is that of a Statecast server: the fields in a certain order, each at most once, and none that this
client does not know. Everything else takes the generated messages, with the same result.
"""

import math
import struct
from datetime import datetime
from typing import TypeAlias

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from statecast.v1 import forecast_pb2, forecast_service_pb2

from ._request import Key, response_key, varint
from ._zones import as_datetime
from .errors import StatecastError, from_status
from .types import Gates, Version

_FIXED64 = struct.Struct("<Q").unpack_from
_FLOAT32 = np.dtype("<f4")
_FLAGS = (False, True)
_MOST_OUTLINES = 1024
# Tags of ForecastResponse; of Version; of Forecast; of results and the responses in them.
_SESSION_ID, _REQUEST_ID, _VERSION, _OPENED, _REPLAYED, _FORECAST = 0x0A, 0x12, 0x1A, 0x20, 0x28, 0x32
_PIT, _GATES, _TIME_TO_LIVE, _MISSING_STEPS = 0x3A, 0x42, 0x4A, 0x50
_STEP, _VERSION_TAG = 0x08, 0x11
_START_TIME, _VALUES = 0x0A, b"\x2a"
_RESULTS = _RESPONSE = 0x0A


# Of forecasts read before: the number of bytes after the outline by the size of the Forecast, the outline by its bytes.
_TAILS: dict[int, int] = {}
_OUTLINES: dict[bytes, "Outline"] = {}


class _Unusual(IndexError):
    """The bytes do not have the usual form; as an IndexError, it also means that they end too early."""


class Outline:
    """The fields of a Forecast that all forecasts of one kind share.

    Attributes:
        fields: These fields, as attributes of `types.Forecast`.
        targets: Number of targets.
        time_zone: Time zone of the session.
        shape: Shape of the values: horizon, levels or classes, targets.
        bytes: Size of the values.
        before_values: Their tag and size, as encoded.
    """

    __slots__ = ("before_values", "bytes", "fields", "shape", "targets", "time_zone")

    def __init__(self, message: forecast_pb2.Forecast) -> None:
        self.targets, self.time_zone = len(message.targets), message.time_zone
        self.shape = message.horizon, len(message.classes or message.quantile_levels), self.targets
        self.bytes = _FLOAT32.itemsize * math.prod(self.shape)
        self.before_values = _VALUES + varint(self.bytes)
        self.fields = {
            "frequency": message.frequency,
            "targets": tuple(message.targets),
            "quantile_levels": tuple(message.quantile_levels),
            "classes": tuple(message.classes),
            "time_zone": message.time_zone,
        }


Predicted: TypeAlias = tuple[Outline, NDArray[np.float32], datetime | None]
"""A Forecast: its outline, its values in their shape, and the time of the first step, if it has one."""


class Response:
    """A ForecastResponse.

    Attributes:
        session_id: The request's session.
        version: Version of the session after the request.
        key: Key of the request.
        opened: True if the request opened the session.
        replayed: True if the observations had been appended before.
        forecast: The forecast; None without one.
        pit: Surprise score of each value, float32, flat; None without any.
        gates: Gates of the last time step; None without any.
        time_to_live_seconds: How long the session is kept; None if the server has not said so.
        missing_steps: Number of missing steps that the request appended.
    """

    session_id: str
    version: Version
    key: Key
    opened: bool = False
    replayed: bool = False
    forecast: Predicted | None = None
    pit: NDArray[np.float32] | None = None
    gates: Gates | None = None
    time_to_live_seconds: float | None = None
    missing_steps: int = 0

    def __init__(self, session_id: str, version: Version, key: Key = b"") -> None:
        self.session_id, self.version, self.key = session_id, version, key


Result: TypeAlias = tuple[Key, Response | StatecastError]


def read_response(data: bytes) -> Response:
    """Read a ForecastResponse.

    Raises:
        DecodeError: The bytes are no such message.
    """
    return _usual(data, 0, len(data)) or to_response(forecast_service_pb2.ForecastResponse.FromString(data))


def read_results(data: bytes) -> list[Result]:
    """Read the results of a ForecastManyResponse or ForecastStreamResponse.

    Raises:
        DecodeError: The bytes are no such message.
    """
    results: list[Result] = []
    at, stop = 0, len(data)
    try:
        while at < stop:
            is_result = data[at] == _RESULTS
            size, start = _number(data, at + 1)
            at = start + size
            if not is_result or at > stop:
                raise _Unusual
            results.append(_read_result(data, start, at))
    except IndexError:  # a field that this client does not know, or no message at all
        return [_to_result(each) for each in forecast_service_pb2.ForecastManyResponse.FromString(data).results]
    return results


def to_response(message: forecast_service_pb2.ForecastResponse) -> Response:
    """Convert a generated message.

    Raises:
        DecodeError: Its arrays do not have the sizes that it names.
    """
    key = response_key(message.session_id, message.request_id)
    response = Response(message.session_id, Version(message.version.step, message.version.tag), key)
    response.opened, response.replayed = message.opened, message.replayed
    response.missing_steps = message.missing_steps
    try:
        if message.HasField("forecast"):
            response.forecast = _to_forecast(message.forecast)
        if message.pit:
            response.pit = np.array(message.pit, np.float32)
        if message.HasField("gates"):
            response.gates = _to_gates(message.gates)
        if message.HasField("time_to_live"):
            response.time_to_live_seconds = _seconds(message.time_to_live)
    except (ValueError, OverflowError) as error:
        raise DecodeError(str(error)) from error
    return response


def _to_result(message: forecast_service_pb2.ForecastResult) -> Result:
    if message.HasField("response"):
        response = to_response(message.response)
        return response.key, response
    return response_key(message.session_id, message.request_id), from_status(message.status)


def _to_forecast(message: forecast_pb2.Forecast) -> Predicted:
    outline = Outline(message)
    start_time = as_datetime(message.start_time, message.time_zone) if message.HasField("start_time") else None
    return outline, np.array(message.values, np.float32).reshape(outline.shape), start_time


def _to_gates(message: forecast_pb2.Gates) -> Gates:
    shape = message.layers, message.hidden_size
    return Gates(
        names=tuple(message.names),
        values=np.array(message.values, np.float32).reshape(shape[0], len(message.names), shape[1]),
        cell=np.array(message.cell, np.float32).reshape(shape) if message.cell else None,
        hidden=np.array(message.hidden, np.float32).reshape(shape),
    )


def _seconds(message: Duration) -> float:
    return message.ToMicroseconds() / 1e6


NO_FORECAST = _to_forecast(forecast_pb2.Forecast())


def _read_result(data: bytes, at: int, stop: int) -> Result:
    if at < stop and data[at] == _RESPONSE:
        size, start = _number(data, at + 1)
        if start + size == stop and (response := _usual(data, start, stop)):
            return response.key, response
    return _to_result(forecast_service_pb2.ForecastResult.FromString(data[at:stop]))


def _usual(data: bytes, at: int, stop: int) -> Response | None:
    """Return the response in these bytes; None if they do not have the usual form."""
    try:
        request = at + 4 + data[at + 1]  # begins the request id, and ends the session id two bytes earlier
        after = request + data[request - 1]
        has_ids = data[at] == _SESSION_ID and data[request - 2] == _REQUEST_ID and data[after] == _VERSION
        if not has_ids or data[at + 1] > 0x7F or data[request - 1] > 0x7F:
            return None
        key = data[at:after]
        if not key.isascii():
            data[request:after].decode()  # or it is no text
        version, rest = _version(data, after + 1)
        response = Response(data[at + 2 : request - 2].decode(), version, key)
        return response if _read_rest(response, data, rest, stop) == stop else None
    except (IndexError, ValueError, OverflowError, struct.error):
        return None


def _read_rest(response: Response, data: bytes, at: int, stop: int) -> int:
    """Read the fields after the version into the response, and return the position after them."""
    if at < stop and data[at] == _OPENED:
        response.opened, at = _FLAGS[data[at + 1]], at + 2
    if at < stop and data[at] == _REPLAYED:
        response.replayed, at = _FLAGS[data[at + 1]], at + 2
    if at < stop and data[at] == _FORECAST:
        start, at = _span(data, at + 1, stop)
        response.forecast = _forecast(data, start, at)
    if at < stop and data[at] == _PIT:
        start, at = _span(data, at + 1, stop)
        if start == at or (at - start) % 4:
            raise _Unusual
        response.pit = np.ndarray((at - start) // 4, _FLOAT32, bytearray(data[start:at]))
    if at < stop and data[at] == _GATES:
        start, at = _span(data, at + 1, stop)
        response.gates = _to_gates(forecast_pb2.Gates.FromString(data[start:at]))
    if at < stop and data[at] == _TIME_TO_LIVE:
        start, at = _span(data, at + 1, stop)
        response.time_to_live_seconds = _seconds(Duration.FromString(data[start:at]))
    if at < stop and data[at] == _MISSING_STEPS:
        response.missing_steps, at = _number(data, at + 1)
    return at


def _version(data: bytes, at: int) -> tuple[Version, int]:
    """Read the length of a Version and its two fields, and return the position after them."""
    step, tag = _number(data, at + 2)
    if data[at + 1] != _STEP or data[tag] != _VERSION_TAG or tag + 9 != at + 1 + data[at]:
        raise _Unusual
    return Version(step, _FIXED64(data, tag + 1)[0]), tag + 9


def _forecast(data: bytes, at: int, stop: int) -> Predicted:
    """Read a Forecast whose outline comes first and whose values come last."""
    tail = _TAILS.get(stop - at)
    outline = None if tail is None else _OUTLINES.get(data[at : stop - tail])
    if tail is None or outline is None:
        outline, tail = _learn(data[at:stop])
    at, start_time = stop - tail, None
    if data[at] == _START_TIME:
        start, at = _span(data, at + 1, stop)
        start_time = as_datetime(Timestamp.FromString(data[start:at]), outline.time_zone)
    start = at + len(outline.before_values)
    if not data.startswith(outline.before_values, at) or start + outline.bytes != stop:
        raise _Unusual
    return outline, np.ndarray(outline.shape, _FLOAT32, bytearray(data[start:stop])), start_time


def _learn(data: bytes) -> tuple[Outline, int]:
    """Remember the outline with which a Forecast begins, and return it with the number of bytes after it."""
    message = forecast_pb2.Forecast.FromString(data)
    outline = Outline(message)
    message.ClearField("start_time")
    message.ClearField("values")
    head = message.SerializeToString()
    if not data.startswith(head):
        raise _Unusual
    if len(_TAILS) >= _MOST_OUTLINES or len(_OUTLINES) >= _MOST_OUTLINES:
        _TAILS.clear()
        _OUTLINES.clear()
    _TAILS[len(data)], _OUTLINES[head] = len(data) - len(head), outline
    return outline, len(data) - len(head)


def _span(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """Read a length, and return where what follows begins and ends."""
    size, start = _number(data, at)
    if start + size > stop:
        raise _Unusual
    return start, start + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return the varint at a position, and the position after it."""
    number = data[at]
    if number < 0x80:
        return number, at + 1
    high = data[at + 1]
    if high < 0x80:
        return number + (high - 1 << 7), at + 2
    higher, highest = data[at + 2], data[at + 3]
    if higher < 0x80:
        return number + (high - 1 << 7) + (higher - 1 << 14), at + 3
    if highest < 0x80:
        return number + (high - 1 << 7) + (higher - 1 << 14) + (highest - 1 << 21), at + 4
    raise _Unusual  # above 2**28
