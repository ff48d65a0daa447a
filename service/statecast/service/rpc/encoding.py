"""Encodes forecast responses to the same bytes as the generated messages, an order of magnitude faster.

A message is a sequence of fields: a tag, then a varint, eight bytes, or a length and that many bytes. A packed
`repeated float` is its little-endian values, as an array already holds them (protobuf.dev, "Encoding").
"""

from functools import lru_cache

from statecast.model import Gates
from statecast.service.engine.request import Outcome, Outline, Request
from statecast.service.rpc.fields import from_milliseconds, from_nanoseconds
from statecast.service.version import Version
from statecast.v1 import forecast_pb2

_VARINT, _FIXED64, _BYTES = 0, 1, 2


def _tag(number: int, kind: int) -> bytes:
    return bytes([number << 3 | kind])


def _varint(number: int) -> bytes:
    if number < len(_SMALL):
        return _SMALL[number]
    return bytes([number & 0x7F | 0x80]) + _varint(number >> 7)


_SMALL = [bytes([number]) for number in range(0x80)]
_SMALL += [bytes([number & 0x7F | 0x80, number >> 7]) for number in range(0x80, 0x4000)]

# ForecastResponse
_SESSION_ID, _REQUEST_ID, _VERSION = _tag(1, _BYTES), _tag(2, _BYTES), _tag(3, _BYTES)
_OPENED, _REPLAYED = _tag(4, _VARINT) + b"\1", _tag(5, _VARINT) + b"\1"
_FORECAST, _PIT, _GATES = _tag(6, _BYTES), _tag(7, _BYTES), _tag(8, _BYTES)
_TIME_TO_LIVE, _MISSING_STEPS = _tag(9, _BYTES), _tag(10, _VARINT)
# Version
_STEP, _VERSION_TAG = _tag(1, _VARINT), _tag(2, _FIXED64)
# Forecast
_START_TIME, _VALUES = _tag(1, _BYTES), _tag(5, _BYTES)
# ForecastResult, ForecastManyResponse and ForecastStreamResponse
_RESPONSE = _RESULTS = _tag(1, _BYTES)


def response(request: Request, outcome: Outcome) -> bytes:
    """Encode a ForecastResponse."""
    session_id, request_id = request.session_id.encode(), request.request_id
    version, forecast, pit = outcome.version, outcome.forecast, outcome.pit
    text = _SESSION_ID + _SMALL[len(session_id)] + session_id
    if request_id:
        text += _REQUEST_ID + _SMALL[len(request_id)] + request_id
    if version is not None:
        text += _version(version)
    if outcome.opened:
        text += _OPENED
    if outcome.replayed:
        text += _REPLAYED
    parts = [text]
    if forecast is not None:
        data = forecast.data
        parts += _forecast_up_to_values(forecast.outline, forecast.start_time, len(data)), data
    if pit is not None:
        parts.append(_PIT + _varint(len(pit)) + pit)
    if outcome.gates is not None:
        gates = _gates(outcome.gates)
        parts += _GATES, _varint(len(gates)), gates
    if request.opening is not None:
        time_to_live = _duration(outcome.ttl_ms)
        parts += _TIME_TO_LIVE, _varint(len(time_to_live)), time_to_live
    if outcome.missing:
        parts += _MISSING_STEPS, _varint(outcome.missing)
    return b"".join(parts)


def succeeded(message: bytes) -> bytes:
    """Encode a ForecastResult that holds a ForecastResponse."""
    return _RESPONSE + _varint(len(message)) + message


def results(messages: list[bytes]) -> bytes:
    """Encode a ForecastManyResponse or ForecastStreamResponse of these ForecastResults."""
    parts: list[bytes] = []
    for message in messages:
        parts += _RESULTS, _varint(len(message)), message
    return b"".join(parts)


def _version(version: Version) -> bytes:
    """Encode the field with the version; its own fields that are 0 are left out."""
    number, tag = version
    step = _STEP + _varint(number) if number else b""
    if not tag:
        return _VERSION + _SMALL[len(step)] + step
    return _VERSION + _SMALL[len(step) + 9] + step + _VERSION_TAG + tag.to_bytes(8, "little")


@lru_cache(maxsize=1024)
def _forecast_up_to_values(outline: Outline, start_time: int | None, size: int) -> bytes:
    """Encode the field with a forecast, without the values, which come last; many forecasts share it."""
    before = _outline(outline)
    if (start := from_nanoseconds(start_time)) is not None:
        time = start.SerializeToString()
        before += _START_TIME + _varint(len(time)) + time
    before += _VALUES + _varint(size)
    return _FORECAST + _varint(len(before) + size) + before


@lru_cache(maxsize=1024)
def _duration(milliseconds: int) -> bytes:
    return from_milliseconds(milliseconds).SerializeToString()


@lru_cache(maxsize=1024)
def _outline(outline: Outline) -> bytes:
    """Encode the fields of a Forecast that all forecasts of that kind share."""
    return forecast_pb2.Forecast(
        horizon=outline.horizon,
        quantile_levels=outline.quantile_levels,
        targets=outline.targets,
        frequency=outline.frequency,
        classes=outline.classes,
        time_zone=outline.time_zone,
    ).SerializeToString()


def _gates(gates: Gates) -> bytes:
    layers, _, hidden_size = gates.values.shape
    return forecast_pb2.Gates(
        names=gates.names,
        layers=layers,
        hidden_size=hidden_size,
        values=gates.values.flatten().tolist(),
        cell=None if gates.cell is None else gates.cell.flatten().tolist(),
        hidden=gates.hidden.flatten().tolist(),
    ).SerializeToString()
