"""Requests generated from the descriptors alone; any field may be absent, valid or invalid."""

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from fuzz.rpcs import Rpc
from fuzz.words import LENGTHS, LONE, PLAIN, PLAIN_MESSAGES, Values, hostile

_SURROGATE = b"\xed\xa0\x80"
MANY_REQUESTS = 4097
MANY_KEYS = 101
SHORT = 2000
USUAL_FIELDS = frozenset({
    "session_id", "source_session_id", "open", "options", "requests", "sessions", "model_name", "parameters", "inputs",
})  # fmt: skip
"""Fields that a sensible request nearly always has."""
RARE_FIELDS = frozenset({
    "start_time", "times", "if_version", "last_seen", "targets", "covariates", "future_covariates", "categories",
    "time_zone", "max_ahead", "frequency", "raw_input_contents",
})  # fmt: skip
"""Fields that are valid for few sessions."""


@cache
def structured(rpc: Rpc) -> st.SearchStrategy[bytes]:
    """Generate encoded requests of an RPC: sensible, with one odd field, or entirely odd."""
    return contents(rpc.request.DESCRIPTOR).map(lambda content: bytes_of(rpc.request(**content)))


def bytes_of(message: Message) -> bytes:
    """Encode the message, and replace the mark of a lone surrogate by a surrogate of as many bytes."""
    return message.SerializeToString().replace(LONE.encode(), _SURROGATE)


@cache
def contents(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """Generate the fields of a message, as arguments for its constructor."""
    plain = {field.name: _plain(field) for field in descriptor.fields}
    odd = {field.name: _odd(field) for field in descriptor.fields}

    @st.composite
    def draw_content(draw: st.DrawFn) -> dict[str, Any]:
        names = sorted(plain)
        every = draw(st.integers(0, 9)) == 0
        single = bool(names) and draw(st.booleans())
        oddities = set(names) if every else {draw(st.sampled_from(names))} if single else set[str]()
        content = {}
        for name in names:
            if name in oddities or draw(st.integers(0, 9)) < _presence(name):
                content[name] = draw(odd[name] if name in oddities else plain[name])
        return {name: value for name, value in content.items() if value is not None}

    return draw_content()


def _presence(name: str) -> int:
    """Return the number of messages, out of ten, that have a field."""
    return 9 if name in USUAL_FIELDS else 1 if name in RARE_FIELDS else 5


def _plain(field: FieldDescriptor) -> Values:
    if field.name in PLAIN:
        return PLAIN[field.name]
    if field.message_type is None:
        return _repeated(field, hostile(field))
    name = field.message_type.full_name
    one = PLAIN_MESSAGES[name] if name in PLAIN_MESSAGES else contents(field.message_type)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _odd(field: FieldDescriptor) -> Values:
    """Generate any value, or None for an absent field."""
    if field.message_type is None:
        return st.none() | _repeated(field, hostile(field))
    if _is_map(field):
        return st.none() | _any_map(field.message_type)
    one = _any_content(field.message_type)
    if not field.is_repeated:
        return st.none() | one
    return st.lists(one, max_size=4) | one.map(_many_times) | st.just([{}] * MANY_REQUESTS)


@cache
def _any_content(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """Generate messages with absent or odd fields: impossible times, durations with two signs, unknown versions."""
    return st.fixed_dictionaries({}, optional={field.name: _odd(field) for field in descriptor.fields}).map(
        lambda content: {name: value for name, value in content.items() if value is not None}
    )


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _any_map(entry: Descriptor) -> Values:
    """Generate a few odd keys with odd values, or far too many."""
    key, value = (entry.fields_by_name[name] for name in ("key", "value"))
    values: Values = _any_content(value.message_type) if value.message_type else hostile(value)
    short: Values = st.just({}) if value.message_type else st.just("x")
    many = short.map(lambda one: {str(number): one for number in range(MANY_KEYS)})
    return st.dictionaries(hostile(key), values, max_size=3) | many


def _many_times(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Repeat a message many times, or twice if it is long, because valid work takes time."""
    return [content] * (64 if len(repr(content)) < SHORT else 2)


def _repeated(field: FieldDescriptor, one: Values) -> Values:
    """Generate short lists of any values, and long lists of one value, which are cheap to generate."""
    if not field.is_repeated:
        return one
    long = st.builds(lambda length, value: [value] * length, st.sampled_from(LENGTHS), one)
    return st.lists(one, max_size=6) | long
