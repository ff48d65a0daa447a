"""Messages as JSON, as json_format writes them."""

import json
import math
from typing import Any

import numpy as np
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from statecast.service.errors import NotFound
from statecast.service.rpc.status import to_status
from statecast.service.transport.http_json.writing import chunks, shortest, to_value
from statecast.v1 import forecast_pb2
from statecast.v1 import forecast_service_pb2 as pb
from statecast.v1 import model_service_pb2 as models
from statecast.v1.reasons import Reason


def as_the_library_does(message: Message) -> Any:
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


FLOATS, DOUBLES = st.lists(st.floats(width=32, allow_subnormal=False), max_size=5), st.lists(st.floats(), max_size=5)
TEXTS = st.text(max_size=5)
VERSIONS = st.none() | st.builds(forecast_pb2.Version, step=st.integers(0, 2**64 - 1), tag=st.integers(0, 2**64 - 1))
DURATIONS = st.none() | st.builds(Duration, seconds=st.integers(0, 10**9), nanos=st.integers(0, 10**9 - 1))
TIMES = st.none() | st.builds(Timestamp, seconds=st.integers(-(10**9), 10**9), nanos=st.integers(0, 10**9 - 1))
FORECASTS = st.none() | st.builds(
    forecast_pb2.Forecast, start_time=TIMES, horizon=st.integers(0, 9), quantile_levels=DOUBLES, values=FLOATS,
    targets=st.lists(TEXTS, max_size=2), time_zone=TEXTS,
)  # fmt: skip
GATES = st.none() | st.builds(forecast_pb2.Gates, names=st.lists(TEXTS, max_size=2), values=FLOATS)
SESSIONS = st.builds(
    forecast_pb2.Session, session_id=TEXTS, version=VERSIONS, time_to_live=DURATIONS, last_time=TIMES,
    categories=st.dictionaries(TEXTS, TEXTS, max_size=2), max_ahead=DURATIONS,
)  # fmt: skip
CATEGORIES = st.builds(models.Category, name=TEXTS, values=st.lists(TEXTS, max_size=2))
RESPONSES: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        pb.ForecastResponse, session_id=TEXTS, version=VERSIONS, opened=st.booleans(), forecast=FORECASTS, pit=FLOATS,
        gates=GATES, time_to_live=DURATIONS, missing_steps=st.integers(0, 2**32 - 1),
    ),
    st.builds(pb.ListSessionsResponse, sessions=st.lists(SESSIONS, max_size=2), next_page_token=TEXTS),
    st.builds(models.Model, name=TEXTS, quantile_levels=DOUBLES, categories=st.lists(CATEGORIES, max_size=2)),
)  # fmt: skip


@given(message=RESPONSES)
def test_a_response_is_written_as_the_library_does(message: Message) -> None:
    assert to_value(message) == as_the_library_does(message)


def test_a_frame_is_written_piece_by_piece() -> None:
    status = to_status(NotFound("there is no 'ä'", Reason.SESSION_NOT_FOUND))
    results = [pb.ForecastResult(response=pb.ForecastResponse(pit=[0.1])), pb.ForecastResult(status=status)]
    response = pb.ForecastManyResponse(results=results)
    pieces = list(chunks(response))
    assert len(pieces) == 4
    written = json.loads(b"".join(pieces))
    expected = as_the_library_does(response)
    expected["results"][1]["status"] = json_format.MessageToDict(status)  # details have no empty parts
    assert written == expected
    assert written["results"][1]["status"]["details"][0]["reason"] == "SESSION_NOT_FOUND"
    assert list(chunks(pb.ForecastManyResponse())) == [b'{"results":[', b"]}"]


NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(numbers=st.lists(NUMBERS, min_size=1))
def test_numbers_of_32_bits_are_short_and_exact(numbers: list[float]) -> None:
    exact = np.array(numbers, np.float32)
    short = shortest(exact)
    assert np.array_equal(np.array(short, np.float32), exact)
    assert short == [float(str(number)) for number in exact]


def test_numbers_that_json_lacks_have_names() -> None:
    response = pb.ForecastResponse(pit=[math.nan, 0.25, math.inf, -math.inf])
    assert to_value(response)["pit"] == ["NaN", 0.25, "Infinity", "-Infinity"]
