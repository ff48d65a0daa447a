"""Messages from JSON, as json_format reads them; but null among numbers is NaN, and errors name the field."""

import json
import math
from typing import Any

import pytest
from fuzz.messages import contents
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from hypothesis import given, reject
from hypothesis import strategies as st

from statecast.service.rpc.methods import Malformed
from statecast.service.transport.http_json.reading import MOST_PARTS, SCALARS, fill, parse
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1 import model_service_pb2 as models


def read(body: str | bytes, message: Message | None = None) -> Any:
    """Return a request, by default of Forecast."""
    message = pb.ForecastRequest() if message is None else message
    fill(message, parse(body if isinstance(body, bytes) else body.encode()))
    return message


def encoded(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


@given(content=contents(pb.ForecastRequest.DESCRIPTOR), names=st.booleans())
def test_a_request_is_read_as_the_library_wrote_it(content: dict[str, Any], names: bool) -> None:
    request = pb.ForecastRequest(**content)
    try:
        written = json_format.MessageToJson(request, preserving_proto_field_name=names)
    except (ValueError, json_format.SerializeToJsonError):  # a time that JSON cannot write
        reject()
    again = json_format.MessageToJson(read(written), preserving_proto_field_name=names)
    assert json.loads(again) == json.loads(written)


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"sessionId": null, "observations": null, "quantileLevels": null, "open": {"categories": null}}',
        '{"horizon": 3.0, "quantileLevels": ["0.5", 1, "-1.5e-3"]}',
        '{"horizon": "7", "lastSeen": {"step": 12, "tag": "18446744073709551615"}}',
        '{"observations": {"values": [1, 2.5, "Infinity", "-Infinity", "NaN"]}}',
        '{"observations": {"startTime": "2024-03-31T02:00:00.25+02:00", "times": ["1969-12-31T23:59:59.123456789Z"]}}',
        '{"open": {"timeToLive": "1.5s", "maxAhead": "0s", "categories": {"region": "ä\\u00df"}}, "explain": true}',
        '{"open": {}, "ifVersion": {}}',
    ],
)
def test_what_the_library_takes_is_taken_as_there(body: str) -> None:
    assert encoded(read(body)) == encoded(json_format.Parse(body, pb.ForecastRequest()))


def test_null_among_numbers_is_a_missing_value() -> None:
    request = read('{"observations": {"values": [1, null, 3], "covariates": [null]}, "futureCovariates": [null, 2]}')
    assert list(map(math.isnan, request.observations.values)) == [False, True, False]
    assert math.isnan(request.observations.covariates[0])
    assert math.isnan(request.future_covariates[0])


@pytest.mark.parametrize(
    ("body", "field", "problem"),
    [
        ('{"horizn": 1}', "horizn", "there is no such field; there are: sessionId, open,"),
        ('{"observations": {"value": [1]}}', "observations.value", "there is no such field"),
        ('{"a b": 1}', "'a b'", "there is no such field"),
        ('{"observations": {"values": [1, "x"]}}', "observations.values[1]", '"x" is no number; send one, or null'),
        ('{"observations": {"values": [true]}}', "observations.values[0]", "true is no number"),
        ('{"observations": {"values": ["nan"]}}', "observations.values[0]", '"nan" is no number'),
        ('{"observations": {"values": [[1]]}}', "observations.values[0]", "a list is no number"),
        ('{"observations": {"values": [1%s]}}' % ("0" * 400), "observations.values[0]", "is no number"),
        ('{"observations": {"values": 1}}', "observations.values", "1 is no list; write one in brackets"),
        ('{"observations": [1]}', "observations", "a list is no object; write one in braces"),
        ('{"horizon": -1}', "horizon", "-1 is no whole number from 0 to 4294967295"),
        ('{"horizon": 4294967296}', "horizon", "is no whole number"),
        ('{"horizon": 1.5}', "horizon", "1.5 is no whole number"),
        ('{"horizon": true}', "horizon", "true is no whole number"),
        ('{"horizon": "\u0661"}', "horizon", "is no whole number"),
        ('{"lastSeen": {"tag": 18446744073709551616}}', "last_seen.tag", "is no whole number"),
        ('{"sessionId": 7}', "session_id", "7 is no string; write it in quotes"),
        ('{"sessionId": "%s"}' % ("x" * 300 + "\\ud800"), "session_id", "character 301 is half of a pair"),
        ('{"explain": 1}', "explain", "1 is neither true nor false"),
        ('{"open": {"categories": {"region": 7}}}', "open.categories['region']", "7 is no string"),
        ('{"open": {"categories": []}}', "open.categories", "a list is no object"),
        ('{"open": {"timeToLive": 60}}', "open.time_to_live", '60 is no number of seconds, such as "2.5s"'),
        ('{"timeout": "2"}', "timeout", '"2" is no number of seconds'),
        ('{"timeout": "%ss"}' % ("9" * 40), "timeout", "is no number of seconds"),
        ('{"observations": {"times": ["2024-02-30T00:00:00Z"]}}', "observations.times[0]", "is no time with a zone"),
        ('{"observations": {"times": ["2024-02-28T00:00:00"]}}', "observations.times[0]", "is no time with a zone"),
        ('{"observations": {"startTime": 1711843200}}', "observations.start_time", "1711843200 is no time"),
        ('{"sessionId": "a", "session_id": "a"}', "session_id", "given twice, as sessionId and as session_id"),
        ('{"horizon": 1, "horizon": 2}', "horizon", "given twice in one object"),
        ("[]", "request", "a list is no object"),
        ("null", "request", "null is no object"),
        ("{", "request", "is not valid JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ('{"a": 1} {}', "request", "is not valid JSON"),
        ('{"observations": {"values": [NaN]}}', "request", "holds NaN, which is not JSON; send null"),
        (b'{"sessionId": "\xff"}', "request", "is not UTF-8 at byte 15"),
        ("[" * 40_000, "request", "nested too deeply"),
        ('{"horizon": %s}' % ("1" * 5000), "request", "a number has too many digits"),
        ('{"requests": [%s{}]}' % ("{}," * MOST_PARTS), "request", f"has more than {MOST_PARTS} objects and lists"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_names_the_field_and_the_problem(body: str | bytes, field: str, problem: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(body)
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert len(caught.value.problem) < 300


NAMES = sorted({
    name
    for kind in (pb.ForecastRequest, forecast_pb2.Observations, forecast_pb2.OpenOptions)
    for field in kind.DESCRIPTOR.fields
    for name in (field.name, field.json_name)
})  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("1.5s") | st.sampled_from(NAMES)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner)
)


@given(body=st.dictionaries(st.sampled_from(NAMES), VALUES).map(lambda value: json.dumps(value).encode()) | st.binary())
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    refused = None
    try:
        read(body).SerializeToString()
    except Malformed as error:
        refused = error
    assert refused is None or (refused.field and len(refused.problem) < 300 and str(refused).encode())


def test_a_long_name_is_shortened() -> None:
    with pytest.raises(Malformed) as caught:
        read('{"open": {"categories": {"%s": 7}}}' % ("x" * 10_000))
    assert len(caught.value.field) < 200


def test_errors_in_a_frame_name_the_request() -> None:
    with pytest.raises(Malformed, match=r"requests\[1\].observations.values\[0\]"):
        read('{"requests": [{}, {"observations": {"values": [{}]}}]}', pb.ForecastManyRequest())


def test_a_body_may_be_empty() -> None:
    assert read("") == pb.ForecastRequest()


def types_in(message: Descriptor) -> set[int]:
    nested = [types_in(field.message_type) for field in message.fields if field.message_type]
    return {field.type for field in message.fields if not field.message_type}.union(*nested)


@pytest.mark.parametrize("module", [pb, models])
def test_every_type_in_a_request_can_be_read(module: Any) -> None:
    """The times' own parts are read as strings."""
    for service in module.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            known = {*SCALARS, *types_in(Duration.DESCRIPTOR)}
            assert types_in(method.input_type) <= known, method.name
