"""Rows are placed on a session's time grid, and the advice in errors works."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.model import UTC, Frequency, Zone
from statecast.service.engine.clock import Bounds, Clock, Given, Placed, place
from statecast.service.engine.request import NO_TIMES
from statecast.service.errors import InvalidRequest, PreconditionFailed, ServiceError
from statecast.v1.reasons import Reason

BERLIN = "Europe/Berlin"
ZONES = ["", BERLIN, "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns"]
BOUNDS = Bounds(max_steps=1000, reach=5, now=0, max_ahead_ms=0)
ISO = r"\d{4}-\d{2}-\d{2}T[\d:.]+(?:Z|[+-]\d{2}:\d{2})"


def ns(text: str) -> int:
    return pd.Timestamp(text).as_unit("ns").value


def clock(alias: str, zone: str = "") -> Clock:
    return Clock(Frequency.parse(alias), Zone.parse(zone))


def put(
    own: Clock, *times: str, last: int | None = None, start: str | None = None, rows: int = 1, bounds: Bounds = BOUNDS
) -> Placed:
    """Place rows of the values 1, 2, 3, ... at some times."""
    values = np.arange(1.0, (len(times) or rows) + 1).reshape(-1, 1)
    instants = np.array([ns(time) for time in times], np.int64) if times else NO_TIMES
    return place(values, Given(None if start is None else ns(start), instants), last, own, bounds)


@given(
    st.sampled_from(["h", "15min", "D", "W-MON", "MS", "ME", "B"]),
    st.sampled_from(ZONES),
    st.lists(st.integers(0, 60), min_size=1, max_size=12, unique=True).map(sorted),
    st.integers(0, 150),
    st.booleans(),
)
def test_rows_stand_at_their_steps(alias: str, zone: str, steps: list[int], offset: int, continues: bool) -> None:
    own = clock(alias, zone)
    begin = own.frequency.add(own.frequency.period_of(ns("2009-01-01")), offset)
    times = own.frequency.times(begin, 61)
    last = own.frequency.add(begin, -1) if continues else None
    steps = steps if continues else [step - steps[0] for step in steps]
    instants = np.array([own.instant(int(times[step])) for step in steps], np.int64)
    if (np.diff(instants) <= 0).any():  # Samoa skipped a date
        return
    values = np.arange(1.0, len(steps) + 1).reshape(-1, 1)
    placed = place(values, Given(None, instants), last, own, BOUNDS)
    expected = np.full((steps[-1] + 1, 1), np.nan)
    expected[steps] = values
    np.testing.assert_array_equal(placed.rows, expected)
    assert placed.times == times[: steps[-1] + 1].tolist()
    assert placed.given is None or placed.given.tolist() == steps
    # One request per row gives the same result.
    at = last
    for row, instant in zip(values, instants.tolist(), strict=True):
        single = place(row.reshape(1, 1), Given(instant, NO_TIMES), at, own, BOUNDS)
        at = single.times[-1]
        assert at == placed.times[steps[int(row[0]) - 1]]


def test_without_times_rows_follow_on() -> None:
    placed = put(clock("h"), last=ns("2024-01-01T05:00"), rows=2)
    assert placed.times == [ns("2024-01-01T06:00"), ns("2024-01-01T07:00")]
    assert placed.given is None
    gap = put(clock("D", BERLIN), last=ns("2024-03-29"), start="2024-04-01T00:00+02:00", rows=2)
    assert gap.times == [ns(f"2024-{day}") for day in ("03-30", "03-31", "04-01", "04-02")]
    np.testing.assert_array_equal(gap.rows[:, 0], [np.nan, np.nan, 1, 2])


@pytest.mark.parametrize(("alias", "zone"), [("D", BERLIN), ("h", "")])
def test_a_session_begins_with_a_time(alias: str, zone: str) -> None:
    with pytest.raises(InvalidRequest, match=r"observations\.start_time: missing.*or times"):
        put(clock(alias, zone))


@pytest.mark.parametrize(
    ("alias", "times", "field", "says"),
    [
        ("h", ["2024-01-01T02:00Z", "2024-01-01T01:00Z"], "observations.times[1]", "not later than"),
        ("h", ["2024-01-01T02:00Z", "2024-01-01T02:00Z"], "observations.times[1]", "not later than"),
        ("h", ["2024-01-01T02:00Z", "2024-01-01T03:07Z"], "observations.times[1]", "dated 2023-12-31T22:00:00-05:00"),
        ("D", ["2024-11-02", "2024-11-03T03:00"], "observations.times[1]", "dated 2024-11-03T00:00:00-04:00"),
        ("MS", ["2024-01-15"], "observations.times[0]", "dated 2024-01-01T00:00:00-05:00"),
        ("ME", ["2024-01-31", "2024-02-15"], "observations.times[1]", "dated 2024-02-29T00:00:00-05:00"),
        ("B", ["2024-01-05", "2024-01-06"], "observations.times[1]", "dated 2024-01-05T00:00:00-05:00"),
        ("h", ["2024-01-01T00:00Z", "2024-03-01T00:00Z"], "observations.times[1]", "gap of 1439 steps"),
    ],
)
def test_times_that_cannot_be_are_refused_by_row(alias: str, times: list[str], field: str, says: str) -> None:
    zone = "America/New_York"
    given = [str(pd.Timestamp(time).tz_localize(zone)) if "Z" not in time else time for time in times]
    with pytest.raises(InvalidRequest, match=re.escape(says)) as caught:
        put(clock(alias, zone), *given)
    assert caught.value.field == field


def test_two_rows_of_one_date_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="same step of 'D'") as caught:
        put(clock("D", "America/Havana"), "2024-11-02T00:00-04:00", "2024-11-03T00:00-04:00", "2024-11-03T00:00-05:00")
    assert caught.value.field == "observations.times[2]"


def advised_time(error: ServiceError) -> str:
    """Return the last time that an error names."""
    return str(re.findall(ISO, error.message)[-1])


@pytest.mark.parametrize(
    ("alias", "zone", "last", "wrong"),
    [
        ("h", "", "2024-01-01T02:00", "2024-01-01T04:07Z"),
        ("h", "", "2024-01-01T02:00", "2024-01-01T02:07Z"),
        ("MS", BERLIN, "2024-02-01", "2024-02-15T00:00+01:00"),
        ("D", BERLIN, "2024-03-30", "2024-03-31T06:00+02:00"),
        ("D", BERLIN, "2024-03-30T06:00", "2024-03-31T07:30+02:00"),
        ("MS", BERLIN, "2024-01-01", "2024-03-15T00:00+01:00"),
        ("ME", "", "2024-01-31", "2024-03-15T00:00Z"),
        ("2MS", "", "2024-01-01", "2024-04-15T00:00Z"),
        ("W-SUN", BERLIN, "2024-01-07", "2024-01-18T00:00+01:00"),
        ("B", BERLIN, "2024-01-05", "2024-01-20T00:00+01:00"),
        ("MS", BERLIN, None, "2024-03-15T00:00+01:00"),
    ],
)
def test_a_time_off_the_grid_is_taken_as_the_error_advises(alias: str, zone: str, last: str | None, wrong: str) -> None:
    own, at = clock(alias, zone), None if last is None else ns(last)
    with pytest.raises(InvalidRequest, match="the step around it is dated") as caught:
        put(own, start=wrong, last=at)
    placed = put(own, start=advised_time(caught.value), last=at)
    apart = abs(own.instant(placed.times[-1]) - ns(wrong))
    assert apart <= own.frequency.usual_step_ns


@pytest.mark.parametrize("zone", ["", "+01:00"])
@pytest.mark.parametrize(
    ("alias", "times"),
    [
        ("D", ["2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00"]),
        ("W-MON", ["2024-03-25T00:00+01:00", "2024-04-01T00:00+02:00"]),
        ("MS", ["2024-03-01T00:00+01:00", "2024-04-01T00:00+02:00"]),
        ("B", ["2024-03-29T00:00+01:00", "2024-04-01T00:00+02:00"]),
    ],
)
def test_local_midnights_need_their_zone_which_the_error_asks_for(zone: str, alias: str, times: list[str]) -> None:
    with pytest.raises(InvalidRequest, match=r"time_zone='Europe/\.\.\.'"):
        put(clock(alias, zone), *times)
    with pytest.raises(InvalidRequest, match=r"time_zone='Europe/\.\.\.'"):
        put(clock(alias, zone), times[1], last=put(clock(alias, zone), times[0]).times[-1] if alias != "MS" else None)
    placed = put(clock(alias, BERLIN), *times)
    assert [pd.Timestamp(time).isoformat() for time in placed.times] == [time[:10] + "T00:00:00" for time in times]


def test_what_is_late_is_refused_and_the_rest_taken_as_advised() -> None:
    own = clock("D", BERLIN)
    days = [f"2024-03-{day}T00:00+01:00" for day in (28, 29, 30, 31)]
    with pytest.raises(PreconditionFailed, match=r"observations\.times\[0\]: 2024-03-28") as caught:
        put(own, *days, last=ns("2024-03-29"))
    assert caught.value.reason is Reason.TIME_ORDER
    kept = [day for day in days if ns(day) >= ns(advised_time(caught.value))]
    assert put(own, *kept, last=ns("2024-03-29")).times == [ns("2024-03-30"), ns("2024-03-31")]


@pytest.mark.parametrize(
    ("times", "start", "rows", "field"),
    [
        (["2024-05-01T00:00Z", "2024-05-03T13:00Z"], None, 2, "observations.times[1]"),
        ([], "2024-05-03T13:00Z", 1, "observations.start_time"),
        ([], "2024-05-03T12:00Z", 3, "observations.values, time step 1"),
        ([], None, 2, "observations.values, time step 1"),
    ],
)
def test_what_is_dated_too_far_ahead_is_refused(times: list[str], start: str | None, rows: int, field: str) -> None:
    last = ns("2024-05-03T11:00") if start is None and not times else ns("2024-04-30T23:00")
    now = ns("2024-05-02T12:00:00.5")
    bounds = Bounds(1000, 5, now, max_ahead_ms=clock("h").usual_max_ahead_ms)
    with pytest.raises(PreconditionFailed, match="2024-05-02T12:00:00Z") as caught:
        put(clock("h"), *times, start=start, rows=rows, last=last, bounds=bounds)
    assert caught.value.reason is Reason.TIME_AHEAD
    assert caught.value.message.startswith(f"{field}: 2024-05-03T13:00:00Z is further ahead")
    put(clock("h"), *times, start=start, rows=rows, last=last)  # 0 allows any time
    put(clock("h"), *times[:1], start="2024-05-03T12:00Z" if not times else None, last=last, bounds=bounds)


@pytest.mark.parametrize(("alias", "days"), [("h", 1), ("D", 2), ("12h", 1), ("W-MON", 14), ("MS", 60.87)])
def test_how_far_ahead_is_usual(alias: str, days: float) -> None:
    assert clock(alias).usual_max_ahead_ms / 86_400_000 == pytest.approx(days, rel=0.01)


def test_days_ahead_are_counted_by_instants() -> None:
    own = clock("D", "Pacific/Auckland")
    bounds = Bounds(1000, 5, now=ns("2024-05-01T11:59Z"), max_ahead_ms=60_000)
    assert put(own, "2024-05-02T00:00+12:00", bounds=bounds).times == [ns("2024-05-02")]
    assert own.zone != UTC


def test_a_long_gap_is_bridged_as_the_error_advises() -> None:
    own, last = clock("h"), ns("2024-01-01T00:00")
    with pytest.raises(InvalidRequest, match="send the rows in several requests"):
        put(own, "2024-01-01T01:00Z", "2024-02-10T00:00Z", "2024-02-12T00:00Z", last=last)
    first = put(own, "2024-01-01T01:00Z", last=last)
    second = put(own, "2024-02-10T00:00Z", last=first.times[-1])
    assert put(own, "2024-02-12T00:00Z", last=second.times[-1]).times[-1] == ns("2024-02-12T00:00")
    with pytest.raises(InvalidRequest, match="send NaN for the steps between in several requests"):
        put(own, "2024-03-01T00:00Z", last=last)
    while last < ns("2024-02-10T00:00"):
        last = put(own, rows=700, last=last).times[-1]
    assert put(own, "2024-03-01T00:00Z", last=last).times[-1] == ns("2024-03-01T00:00")


@given(st.integers(1680, 2255), st.integers(0, 40), st.sampled_from(["B", "MS", "W-MON", "QS"]))
def test_calendars_are_whole_over_all_decades(year: int, years: int, alias: str) -> None:
    frequency = Frequency.parse(alias)
    first, last = ns(f"{year}-01-01"), ns(f"{min(year + years, 2261)}-12-31")
    days = frequency.days(first, last)
    expected = pd.date_range(pd.Timestamp(first), pd.Timestamp(last), freq=alias).as_unit("ns").asi8
    assert days[(days >= first) & (days <= last)].tolist() == expected.tolist()


@pytest.mark.parametrize("alias", ["ns", "min", "D", "B", "MS"])
def test_times_centuries_away_are_refused_for_what_they_are(alias: str) -> None:
    own, last = clock(alias), ns("2024-01-01")
    for times in (["1700-01-01"], ["1700-01-01", "1700-02-01"], ["1700-01-01", "2100-01-01"]):
        with pytest.raises(PreconditionFailed, match="send only those from 2024-0") as caught:
            put(own, *times, last=last)
        assert caught.value.reason is Reason.TIME_ORDER
    if alias != "MS":
        with pytest.raises(InvalidRequest, match="leaves a gap of") as far:
            put(own, "2024-02-01", "2255-01-01", last=last)
        assert far.value.reason is Reason.SPAN_TOO_LONG
        assert far.value.field == "observations.times[1]"
