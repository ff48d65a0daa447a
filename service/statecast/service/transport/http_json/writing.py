"""Writes messages as proto3 JSON: 64-bit integers are strings, and fields without a value of their own are written."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from google.protobuf import any_pb2, json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2  # noqa: F401  # a status is written by the descriptions of its details

from statecast.v1.forecast_service_pb2 import ForecastManyResponse

_LONG = {FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_INT64}
_SPECIAL = {math.inf: "Infinity", -math.inf: "-Infinity"}
FEWEST_DIGITS, MOST_DIGITS = 6, 9
"""Decimal digits that a 32-bit number can hold, and that it may need to be told from all others."""
LEAST_PLACES, MOST_PLACES = -13, 27
"""Between these, numbers are scaled by powers of ten that are exact: up to the 22nd."""


def chunks(message: Message) -> Iterator[bytes]:
    """Yield a message as JSON, a frame of results in one chunk for each: it may be large."""
    if not isinstance(message, ForecastManyResponse):
        yield encoded(to_value(message))
        return
    yield b'{"results":['
    for index, result in enumerate(message.results):
        yield (b"," if index else b"") + encoded(to_value(result))
    yield b"]}"


def encoded(value: Any) -> bytes:
    """Return a value as JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def to_value(message: Message) -> Any:
    """Return the value that stands for a message in JSON."""
    if isinstance(message, Timestamp | Duration):
        return message.ToJsonString()
    if isinstance(message, any_pb2.Any):
        return json_format.MessageToDict(message)
    values = {}
    fields: Sequence[FieldDescriptor] = message.DESCRIPTOR.fields  # type: ignore[assignment]  # two of its types
    for field in fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            values[field.json_name] = _repeated(value, field)
        elif not field.has_presence:
            values[field.json_name] = _scalars([value], field)[0]
        elif message.HasField(field.name):
            values[field.json_name] = to_value(value)
    return values


def _repeated(values: Any, field: FieldDescriptor) -> Any:
    if field.message_type is None:
        return _scalars(values, field)
    return dict(values) if field.message_type.GetOptions().map_entry else [to_value(value) for value in values]


def _scalars(values: Sequence[Any], field: FieldDescriptor) -> list[Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return _finite(shortest(np.array(values, np.float32)))
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return _finite(list(values))
    return list(map(str, values)) if field.cpp_type in _LONG else list(values)


def _finite(numbers: list[float]) -> list[Any]:
    """Return the numbers, with names for those that JSON lacks."""
    if all(map(math.isfinite, numbers)):
        return numbers
    return [number if math.isfinite(number) else _SPECIAL.get(number, "NaN") for number in numbers]


def shortest(numbers: "np.ndarray[Any, np.dtype[np.float32]]") -> list[float]:
    """Return numbers of 32 bits with as few decimal digits as tell each from all others."""
    exact = numbers.astype(np.float64)
    short = exact.copy()
    todo = np.isfinite(exact) & (exact != 0)
    places = np.zeros(len(exact))
    places[todo] = np.floor(np.log10(np.abs(exact[todo])))
    for index in np.flatnonzero((places < LEAST_PLACES) | (places > MOST_PLACES)):
        short[index], todo[index] = float(str(numbers[index])), False
    for digits in range(FEWEST_DIGITS, MOST_DIGITS + 1):
        shift = digits - 1 - places
        power = 10.0 ** np.abs(shift)
        rounded = np.where(shift >= 0, np.rint(exact * power) / power, np.rint(exact / power) * power)
        fits = todo & (rounded.astype(np.float32) == numbers)
        short[fits] = rounded[fits]
        todo &= ~fits
        if not todo.any():
            break
    found: list[float] = short.tolist()
    return found
