"""Reads messages from proto3 JSON. Errors name the field; null among numbers is NaN, a missing value."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from statecast.service.errors import quoted
from statecast.service.rpc.methods import Malformed

WHOLE = "request"
"""The field that is named if the body as a whole is wrong."""
MOST_PARTS = 50_000
"""Most objects and lists in a body; a frame of 4,096 usual requests has half as many."""
LONGEST_SHOWN = 40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_INTEGER, _NUMBER = re.compile(r"-?\d{1,20}", re.ASCII), re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_NUMBERS = {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}


def parse(body: bytes) -> dict[str, Any]:
    """Return the object that a request's body is; none for an empty body.

    Raises:
        Malformed: if it is no JSON object in UTF-8, or has too many parts.
    """
    if body.count(b"{") + body.count(b"[") > MOST_PARTS:
        raise Malformed(WHOLE, f"has more than {MOST_PARTS} objects and lists; send fewer at once")
    try:
        parsed = json.loads(body.decode() or "{}", object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Malformed(WHOLE, f"is not UTF-8 at byte {error.start}; encode the JSON as UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Malformed(WHOLE, f"is not valid JSON: {error.msg} at {where}; correct the body") from error
    except (ValueError, RecursionError) as error:
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise Malformed(WHOLE, f"is not taken: {problem}; correct the body") from error
    if not isinstance(parsed, dict):
        raise Malformed(WHOLE, f"{_shown(parsed)} is no object; write one in braces")
    return parsed


def fill(message: Message, values: Mapping[str, Any], path: str = "") -> None:
    """Set a message's fields to these values, by the names of JSON or of the .proto file.

    Raises:
        Malformed: if there is no such field, or it cannot have that value.
    """
    fields, given = _fields_of(message.DESCRIPTOR), set()
    for name, value in values.items():
        field = fields.get(name)
        if field is None:
            known = ", ".join(each.json_name for each in message.DESCRIPTOR.fields)
            raise Malformed(f"{path}{field_name(name)}", f"there is no such field; there are: {known or 'none'}")
        if field.number in given:
            raise Malformed(f"{path}{field.name}", f"given twice, as {field.json_name} and as {field.name}; leave one")
        given.add(field.number)
        if value is not None:  # null is the same as none
            _set(message, field, value, f"{path}{field.name}")


def _set(message: Message, field: FieldDescriptor, value: Any, where: str) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        texts = getattr(message, field.name)
        for key, each in _object(value, where).items():
            texts[_text(key, where)] = _text(each, f"{where}[{quoted(key)}]")
    elif field.is_repeated:
        _extend(getattr(message, field.name), field, _list(value, where), where)
    elif field.message_type is not None:
        part = getattr(message, field.name)
        part.SetInParent()
        _fill_part(part, value, where)
    else:
        setattr(message, field.name, SCALARS[field.type](value, where))


def _extend(target: Any, field: FieldDescriptor, values: Sequence[Any], where: str) -> None:
    if field.message_type is not None:
        for index, value in enumerate(values):
            _fill_part(target.add(), value, f"{where}[{index}]")
    elif field.type in _NUMBERS:
        target.extend(_numbers(values, where))
    else:
        read = SCALARS[field.type]
        target.extend([read(value, f"{where}[{index}]") for index, value in enumerate(values)])


def _fill_part(part: Message, value: Any, where: str) -> None:
    if isinstance(part, Timestamp):
        _fill_time(part, value, where)
    elif isinstance(part, Duration):
        _fill_duration(part, value, where)
    else:
        fill(part, _object(value, where), f"{where}.")


def _fill_time(time: Timestamp, value: Any, where: str) -> None:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    try:
        instant = datetime.fromisoformat(match[1] + match[3]) if match else None
    except ValueError:  # such as the 30th of February
        instant = None
    if match is None or instant is None:
        raise Malformed(where, f'{_shown(value)} is no time with a zone, such as "2024-03-31T00:00:00Z"')
    since = instant - _EPOCH
    time.seconds, time.nanos = since.days * 86_400 + since.seconds, int((match[2] or "").ljust(9, "0"))


def _fill_duration(duration: Duration, value: Any, where: str) -> None:
    try:
        duration.FromJsonString(value)
    except (ValueError, TypeError, AttributeError) as error:
        raise Malformed(where, f'{_shown(value)} is no number of seconds, such as "2.5s"') from error


def _numbers(values: Sequence[Any], where: str) -> Sequence[float]:
    """Return numbers, of which null is NaN."""
    if set(map(type, values)) <= {float}:
        return values
    numbers = []
    try:
        for each in values:
            numbers.append(math.nan if each is None else _to_number(each))  # noqa: PERF401  # its length is needed
    except ValueError as error:
        raise _no_number(values[len(numbers)], f"{where}[{len(numbers)}]") from error
    return numbers


def _number(value: Any, where: str) -> float:
    try:
        return _to_number(value)
    except ValueError as error:
        raise _no_number(value, where) from error


def _to_number(value: Any) -> float:
    """Return a number; ValueError says that it is none."""
    kind = type(value)
    if kind is float or kind is int:
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError from error
    if kind is str and value in _SPECIAL:
        return _SPECIAL[value]
    if kind is str and _NUMBER.fullmatch(value):
        return float(value)
    raise ValueError


def _no_number(value: Any, where: str) -> Malformed:
    return Malformed(where, f"{_shown(value)} is no number; send one, or null for a missing value")


def _integer(value: Any, where: str, *, least: int, most: int) -> int:
    is_text = isinstance(value, str) and _INTEGER.fullmatch(value)
    if is_text or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Malformed(where, f"{_shown(value)} is no whole number from {least} to {most}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise Malformed(where, f"{_shown(value)} is no string; write it in quotes")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Malformed(where, f"character {error.start + 1} is half of a pair; send whole characters") from error
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise Malformed(where, f"{_shown(value)} is neither true nor false")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise Malformed(where, f"{_shown(value)} is no list; write one in brackets")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(where, f"{_shown(value)} is no object; write one in braces")
    return value


SCALARS: Mapping[int, Callable[[Any, str], Any]] = {
    FieldDescriptor.TYPE_STRING: _text,
    FieldDescriptor.TYPE_BOOL: _flag,
    FieldDescriptor.TYPE_DOUBLE: _number,
    FieldDescriptor.TYPE_FLOAT: _number,
    FieldDescriptor.TYPE_UINT32: partial(_integer, least=0, most=2**32 - 1),
    FieldDescriptor.TYPE_UINT64: partial(_integer, least=0, most=2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: partial(_integer, least=0, most=2**64 - 1),
}
"""How to read a value of each type that requests have."""


@cache
def _fields_of(message: Descriptor) -> Mapping[str, FieldDescriptor]:
    """Return a message's fields by their names in JSON and in the .proto file."""
    return {name: field for field in message.fields for name in (field.name, field.json_name)}


def _shown(value: Any) -> str:
    """Return the start of a value as JSON writes it."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def field_name(name: str) -> str:
    """Return a name that a caller gave to a field, for an error; quoted if no field has such a name."""
    return name if name.isidentifier() and name.isascii() and len(name) <= LONGEST_SHOWN else quoted(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise Malformed(field_name(name), "given twice in one object; leave one")
    return found


def _no_constant(name: str) -> NoReturn:
    raise Malformed(WHOLE, f"holds {name}, which is not JSON; send null for a missing value")
