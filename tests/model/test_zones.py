"""A zone's clock agrees with zoneinfo, and midnights are found where clocks skip or repeat them."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.model import TimeZoneError, Zone
from statecast.model.zones import DAY_NS, LONGEST_GAP_NS, SECOND_NS

ZONES = [
    "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns", "America/Sao_Paulo", "America/Havana",
    "Australia/Sydney", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Chatham", "Pacific/Apia", "Africa/Cairo",
]  # fmt: skip


def ns(text: str) -> int:
    return pd.Timestamp(text).as_unit("ns").value


instants = st.integers(ns("1900-01-01"), ns("2200-01-01"))


@given(st.sampled_from(ZONES), instants)
def test_a_wall_clock_shows_what_python_says(name: str, instant: int) -> None:
    zone = Zone.parse(name)
    seconds = instant // SECOND_NS
    shown = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).astimezone(ZoneInfo(name))
    expected = ns(shown.replace(tzinfo=None).isoformat()) + instant % SECOND_NS
    wall = zone.wall(instant, expected)  # not a time that the clocks skip
    assert wall == expected
    assert zone.instant(wall) <= instant <= zone.second_instant(wall)
    assert zone.wall(zone.instant(wall), expected) == wall


@given(st.sampled_from(ZONES), st.integers(-25_000, 80_000))
def test_every_local_midnight_is_found_again(name: str, day: int) -> None:
    zone, midnight = Zone.parse(name), day * DAY_NS
    instant = zone.instant(midnight)
    assert zone.is_skipped(midnight) or instant + zone.offset_at(instant) == midnight
    assert zone.instant(midnight - 1) <= instant
    if ns("2011-12-30") != midnight:  # Samoa skipped this day when it crossed the date line
        assert zone.wall(instant) == midnight


@pytest.mark.parametrize(
    ("name", "date", "first"),
    [
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T01:00-02:00"),  # skipped
        ("Africa/Cairo", "2023-04-28", "2023-04-28T01:00+03:00"),
        ("Pacific/Apia", "2010-09-26", "2010-09-26T01:00-10:00"),
        ("America/Havana", "2024-11-03", "2024-11-03T00:00-04:00"),  # repeated
        ("America/St_Johns", "2010-11-07", "2010-11-07T00:00-02:30"),  # at 00:01 back to 23:01 of the day before
        ("Europe/Berlin", "2024-03-31", "2024-03-31T00:00+01:00"),
        ("+05:30", "2024-03-31", "2024-03-31T00:00+05:30"),
        ("-03", "2024-03-31", "2024-03-31T00:00-03:00"),
        ("", "2024-03-31", "2024-03-31T00:00+00:00"),
    ],
)
def test_a_date_begins_at_its_first_instant(name: str, date: str, first: str) -> None:
    zone = Zone.parse(name)
    assert zone.instant(ns(date)) == ns(first)
    assert zone.wall(ns(first)) == ns(date)
    assert zone.walls(np.array([ns(first), ns(first) + DAY_NS])).tolist()[0] == ns(date)
    assert zone.instants(np.array([[ns(date)]])).tolist() == [[ns(first)]]


@pytest.mark.parametrize("instant", ["2024-03-31T03:30+02:00", "2024-03-31T03:00+02:00"])
def test_a_time_of_day_that_is_skipped_is_found_wherever_libraries_put_it(instant: str) -> None:
    zone, expected = Zone.parse("Europe/Berlin"), ns("2024-03-30T02:30")
    assert zone.is_skipped(expected + DAY_NS)
    assert zone.wall(ns(instant), expected) == expected + DAY_NS
    assert zone.wall(ns(instant), expected + LONGEST_GAP_NS) == ns(instant) + 2 * 3600 * SECOND_NS


@pytest.mark.parametrize(
    ("name", "canonical"), [("UTC", ""), ("Z", ""), ("+00:00", ""), ("+0530", "+05:30"), ("Europe/Kiev", "Europe/Kiev")]
)
def test_names_that_mean_the_same(name: str, canonical: str) -> None:
    assert Zone.parse(name).name == canonical


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'"),
        ("Mars/Olympus_Mons", "IANA name"),
        ("../../etc/passwd", "IANA name"),
        ("+24:00", "-23:59 to \\+23:59"),
        ("x" * 1000, "IANA name"),
        ("Europe/Berlin\0", "Europe/Berlin"),
    ],
)
def test_what_is_no_zone_is_refused(name: str, hint: str) -> None:
    with pytest.raises(TimeZoneError, match=hint):
        Zone.parse(name)
