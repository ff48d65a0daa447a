"""Fields that many messages share: valid ones are converted, others are refused by name."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from statecast.service.errors import InvalidRequest
from statecast.service.rpc import fields
from statecast.service.version import Version
from statecast.v1 import forecast_pb2
from statecast.v1.limits import MAX_MAGNITUDE

DAY_NS = 86_400 * 10**9


def refused(call: Callable[[], object]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        call()
    return caught.value


def timestamps(*days: int) -> list[Timestamp]:
    return [Timestamp(seconds=day * 86_400) for day in days]


@pytest.mark.parametrize("name", ["s", "x" * 256, "böiler 7/左"])
def test_session_ids_are_printable_and_not_too_long(name: str) -> None:
    assert fields.to_session_id(name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "session_id: empty; name the session"),
        ("x" * 257, "session_id: 257 characters are more than 256"),
        ("ab\n", "session_id: character 3 is not printable"),
    ],
)
def test_other_session_ids_are_refused(name: str, says: str) -> None:
    assert says in refused(lambda: fields.to_session_id(name)).message
    assert refused(lambda: fields.to_session_id(name, "from_session_id")).field == "from_session_id"


def test_request_ids_are_counted_in_bytes() -> None:
    assert fields.to_request_id("ä" * 32) == "ä".encode() * 32
    assert "66 bytes are more than 64; use a UUID" in refused(lambda: fields.to_request_id("ä" * 33)).message


@pytest.mark.parametrize("count", [3, fields.FEW_NUMBERS + 9])
def test_numbers_may_be_missing_but_not_too_large(count: int) -> None:
    message = forecast_pb2.Observations(values=[1.0] * count + [np.nan, MAX_MAGNITUDE])
    np.testing.assert_array_equal(fields.to_numbers(message.values, "values"), [*[1.0] * count, np.nan, MAX_MAGNITUDE])
    for wrong in (np.inf, -2 * MAX_MAGNITUDE):
        message = forecast_pb2.Observations(values=[1.0] * count + [wrong, wrong])
        error = refused(lambda message=message: fields.to_numbers(message.values, "values"))  # type: ignore[misc]
        assert error.field == f"values[{count}]"
        assert f"{wrong:g} is too large: at most 1e+30 in magnitude, or NaN if missing" in error.message
    assert fields.to_numbers(forecast_pb2.Observations().values, "values").size == 0


def test_versions_go_to_the_wire_and_back() -> None:
    version = Version(7, 2**64 - 1)
    message = fields.from_version(version)
    assert message is not None
    assert fields.to_version(message) == version
    assert fields.from_version(None) is None


@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(1.0, 1000), (1.0004, 1000), (10 * 365 * 86_400.0, 315_360_000_000)]
)
def test_a_time_to_live_is_from_a_second_to_ten_years(seconds: float, milliseconds: int) -> None:
    duration = Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))
    assert fields.to_ttl_ms(duration, "open.time_to_live") == milliseconds


@pytest.mark.parametrize(
    "duration",
    [Duration(), Duration(nanos=999_000_000), Duration(seconds=10 * 365 * 86_400 + 1), Duration(seconds=-5)],
    ids=str,
)
def test_other_times_to_live_are_refused(duration: Duration) -> None:
    assert refused(lambda: fields.to_ttl_ms(duration, "open.time_to_live")).field == "open.time_to_live"


def test_a_limit_of_fractions_of_a_millisecond_is_rounded_up() -> None:
    assert fields.to_max_ahead_ms(Duration(nanos=1), "open.max_ahead") == 1  # 0 would mean no limit
    assert fields.to_max_ahead_ms(Duration(), "open.max_ahead") == 0
    over = Duration(seconds=1001 * 365 * 86_400)
    assert "use 0 for no limit" in refused(lambda: fields.to_max_ahead_ms(over, "open.max_ahead")).message


def test_a_duration_has_valid_nanos() -> None:
    wrong = Duration(seconds=1, nanos=10**9)
    assert "nanos must be from 0 to 999,999,999" in refused(lambda: fields.to_seconds(wrong, "timeout")).message


def test_times_are_of_the_years_that_nanoseconds_hold() -> None:
    assert fields.to_nanoseconds(Timestamp(seconds=86_400, nanos=5), "start_time") == DAY_NS + 5
    for year in (1677, 2262):
        moment = Timestamp()
        moment.FromDatetime(datetime(year, 1, 1, tzinfo=UTC))
        error = refused(lambda moment=moment: fields.to_nanoseconds(moment, "times", 3))  # type: ignore[misc]
        assert error.field == "times[3]"
        assert "not a time in the years 1678 to 2261" in error.message


def test_there_are_no_more_times_than_values() -> None:
    message = forecast_pb2.Observations(times=timestamps(1, 2))
    assert fields.to_times(message.times, 2, "observations.times").tolist() == [DAY_NS, 2 * DAY_NS]
    error = refused(lambda: fields.to_times(message.times, 1, "observations.times"))
    assert "2 times are more than the 1 values; give one for each row" in error.message
    assert fields.to_times(forecast_pb2.Observations().times, 0, "observations.times").size == 0


def test_times_go_to_the_wire_whole() -> None:
    moment = fields.from_nanoseconds(-1)
    assert moment is not None
    assert (moment.seconds, moment.nanos) == (-1, 999_999_999)
    assert fields.to_nanoseconds(moment, "start_time") == -1
    assert fields.from_nanoseconds(None) is None
    assert fields.from_milliseconds(1500).ToMilliseconds() == 1500


def test_a_zone_has_a_name() -> None:
    assert fields.to_zone("Europe/Berlin", "open.time_zone").name == "Europe/Berlin"
    assert refused(lambda: fields.to_zone("Berlin", "open.time_zone")).field == "open.time_zone"
