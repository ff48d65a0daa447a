"""Values at the edges of each field's range, and sensible values that pass the first check."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st
from support.models import tiny_model

from statecast.service.store.portable import to_portable
from statecast.service.store.record import Record, Snapshot
from statecast.service.version import START, chain

Values = st.SearchStrategy[Any]

SESSIONS = tuple(f"pool-{number}" for number in range(8))
LONE = "\ue000"
"""Mark of a lone surrogate, which Python cannot encode; `bytes_of` replaces the mark."""
ID_LIMIT, REQUEST_ID_LIMIT = 256, 64
NOON = 1_700_006_400  # a full hour in 2023
HUGE_TEXT = 200_000
# Versions of a session whose values are all 1, so that valid versions occur.
VERSIONS = (START, *(chain(START, np.ones((steps, 1)), None) for steps in (1, 2, 3)))

TEXTS: Sequence[str] = (
    "", " ", "a", ":", "pool:0", "{pool-0}", "*", "?", "[a-z]", "\\", "^", "-", "pool-*", "%s%n", "../../etc", "'\";--",
    "\0", "\n", "\r\n", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffe", "\U0010ffff", "\u202e\u05d0\u0627",
    "e\u0301\u200d", "\U0001f300" * ID_LIMIT, "\U0001f300" * (ID_LIMIT + 1), LONE, "a" + LONE, "é" * 32, "é" * 33,
    "x" * REQUEST_ID_LIMIT, "x" * (REQUEST_ID_LIMIT + 1), "x" * ID_LIMIT, "x" * (ID_LIMIT + 1), "\0" * ID_LIMIT,
    "x" * HUGE_TEXT, "0", "-1", "1e9", "18446744073709551615", "18446744073709551616", "0" * 30 + "9" * 30,
    "0" * 21 + "9" * 5000, "٣", "²", "nan", "None", "true",
)  # fmt: skip
FLOATS: Sequence[float] = (
    0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 5e-324, -5e-324, 2.2e-308, 1e-45, 3.4e38, -3.4e38, 3.5e38,
    1e30, -1e30, math.nextafter(1e30, math.inf), 1.7e308, -1.7e308, 2.0**53, 0.1, 0.5, 0.9, math.nextafter(0.9, 1.0),
)  # fmt: skip
LENGTHS = (0, 1, 2, 3, 127, 128, 129, 10_000, 10_001, 30_003)
"""Lengths of repeated numbers."""

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


@cache
def portable(session_id: str) -> bytes:
    """Return the record of a new session, as a server exports it."""
    model = tiny_model()
    state = model.layout.pack(model.initial_state(1))[0]
    digest = bytes.fromhex(model.digest)
    snapshot = Snapshot(START, None, 60_000, model="tiny", model_version="1", model_digest=digest, width=1, state=state)
    return to_portable(session_id, Record(snapshot, (), b""))


def hostile(field: FieldDescriptor) -> Values:
    """Generate a value of a scalar field, mostly at an edge of its range."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=100) | st.sampled_from(SESSIONS).map(portable)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.sampled_from(TEXTS) | st.text(max_size=12)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return st.sampled_from(FLOATS) | st.floats()
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    least, most = _INTEGERS[field.cpp_type]
    edges = {least, least + 1, -1, 0, 1, 2, 1000, 1001, 999_999_999, 10**9, 2**31 - 1, 2**31, 2**63 - 1, most - 1, most}
    return st.sampled_from(sorted(edge for edge in edges if least <= edge <= most)) | st.integers(least, most)


PLAIN: dict[str, Values] = {
    "session_id": st.sampled_from(SESSIONS) | st.sampled_from(SESSIONS) | st.integers(8, 10_000).map("pool-{}".format),
    "source_session_id": st.sampled_from(SESSIONS),
    "request_id": st.sampled_from(["", "r1", "r2", "r3"]),
    "prefix": st.sampled_from(["", "pool", "pool-1"]),
    "page_token": st.just("") | st.integers(0, 2**78 - 1).map(str),
    "page_size": st.sampled_from([0, 1, 10, 1000]),
    "model": st.sampled_from(
        ["", "", "", "", "base", "tiny", "tiny@live", "three", "hourly", "shop", "letters", "unreal"]
    ),
    "alias": st.sampled_from(["live", "canary", "two words"]),
    "policy": st.sampled_from(["pin", "follow", "@live", "@none", "sometimes"]),
    "undo": st.just(True),  # retired models would leave little to the other methods
    "name": st.sampled_from(["", "base", "tiny", "three", "hourly", "shop", "letters", "unreal"]),
    "model_version": st.sampled_from(["", "", "1", "2"]),
    "version": st.sampled_from(["", "", "1", "2"]),
    "horizon": st.integers(0, 7),
    "targets": st.sampled_from([0, 0, 0, 1, 3]),
    "values": st.lists(st.sampled_from([1.0, 1.0, -2.5, math.nan, 1e6]), max_size=6)
    | st.builds(lambda length: [1.0] * length, st.sampled_from([1, 2, 3, 30, 300])),
    "covariates": st.just([]) | st.lists(st.sampled_from([0.0, 1.0, math.nan, -1e30]), max_size=6),
    "future_covariates": st.just([]) | st.lists(st.sampled_from([0.0, 1.0, math.nan, 1e30]), max_size=12),
    "quantile_levels": st.just([]) | st.lists(st.floats(0.1, 0.9), max_size=4),
    "categories": st.dictionaries(
        st.sampled_from(["region", "kind"]), st.sampled_from(["north", "south", "large", "", "?"])
    ),
    "frequency": st.sampled_from(["", "h", "60min", "D", "MS", "B", "1ns", "1000CBMS", "100YS", "fortnight"]),
    "time_zone": st.sampled_from(["", "Europe/Berlin", "America/Sao_Paulo", "+05:30", "UTC", "Nowhere/Land"]),
    "model_name": st.sampled_from(["base", "tiny", "tiny", "tiny", "three", "hourly", "unreal"]),
    "id": st.sampled_from(["", "r1", "r2"]),
    "parameters": st.fixed_dictionaries(
        {"sequence_id": st.sampled_from([{"string_param": f"pool-{number}"} for number in range(3)])},
        optional={
            "sequence_start": st.booleans().map(lambda value: {"bool_param": value}),
            "sequence_end": st.booleans().map(lambda value: {"bool_param": value}),
            "exactly_once": st.booleans().map(lambda value: {"bool_param": value}),
            "horizon": st.integers(1, 7).map(lambda value: {"int64_param": value}),
        },
    ),
    "outputs": st.just([]) | st.lists(st.sampled_from([{"name": "step"}, {"name": "forecast"}]), max_size=3),
    "raw_input_contents": st.just([]),
}
"""Sensible values, by the name of the field."""

PLAIN_MESSAGES: dict[str, Values] = {
    "inference.ModelInferRequest.InferInputTensor": st.lists(
        st.sampled_from([1.0, -2.5, math.nan, 1e6]), min_size=1, max_size=4
    ).map(
        lambda values: {
            "name": "values",
            "datatype": "FP32",
            "shape": [1, len(values)],
            "contents": {"fp32_contents": values},
        }
    ),
    "statecast.v1.ExportedSession": st.sampled_from(SESSIONS).map(
        lambda name: {"session_id": name, "record": portable(name), "time_left": {"seconds": 60}}
    ),
    "google.protobuf.Timestamp": st.integers(-3, 48).map(lambda hours: {"seconds": NOON + 3600 * hours}),
    "google.protobuf.Duration": st.sampled_from([1, 60, 86_400]).map(lambda seconds: {"seconds": seconds}),
    "statecast.v1.Version": st.sampled_from(VERSIONS).map(lambda version: {"step": version.step, "tag": version.tag}),
}
"""Sensible values, by the name of the message."""
