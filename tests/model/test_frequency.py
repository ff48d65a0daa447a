"""Steps are counted and added on grids of fixed and of calendar length."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.model import Frequency, FrequencyError


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("alias", "start", "end", "steps"),
    [
        ("h", "2024-02-28T23:00", "2024-03-01T00:00", 25),
        ("30min", "2024-01-01T00:10", "2024-01-01T02:10", 4),
        ("D", "2024-01-01T05:00", "2025-01-01T05:00", 366),
        ("7D", "2024-01-01", "2024-01-15", 2),
        ("W-MON", "2024-01-01", "2024-01-15", 2),
        ("MS", "2023-11-01", "2024-03-01", 4),
        ("ME", "2024-01-31", "2024-03-31", 2),
        ("QS", "2024-01-01", "2025-01-01", 4),
        ("YS", "2000-01-01", "2024-01-01", 24),
        ("B", "2024-01-05", "2024-01-09", 2),
        ("MS", "1700-01-01", "2200-01-01", 6000),
    ],
)
def test_steps_are_counted_and_added(alias: str, start: str, end: str, steps: int) -> None:
    frequency = Frequency.parse(alias)
    assert frequency.steps_between(ns(start), ns(end)) == steps
    assert frequency.steps_between(ns(end), ns(start)) == -steps
    assert frequency.steps_between(ns(start), ns(start)) == 0
    assert frequency.add(ns(start), steps) == ns(end)
    assert frequency.add(ns(end), -steps) == ns(start)


@pytest.mark.parametrize(
    ("alias", "start", "end"),
    [
        ("h", "2024-01-01T00:00", "2024-01-01T00:30"),
        ("MS", "2024-01-01", "2024-02-02"),
        ("MS", "2024-01-02", "2024-02-01"),
        ("MS", "2024-01-01T00:00", "2024-02-01T00:01"),
        ("2MS", "2024-01-01", "2024-02-01"),
        ("B", "2024-01-05", "2024-01-06"),
        ("W-MON", "2024-01-01", "2024-01-09"),
    ],
)
def test_a_time_off_the_grid_is_refused(alias: str, start: str, end: str) -> None:
    with pytest.raises(FrequencyError):
        Frequency.parse(alias).steps_between(ns(start), ns(end))


@pytest.mark.parametrize(
    "alias",
    [
        "fortnight",
        "-1h",
        "0h",
        "bh",
        "",
        "H",
        "W-mon",
        " h",
        "h\n",
        "٣h",
        "99999999999D",
        "9223372036854775807h",
        "2000000000ME",
        "36000CBME",
    ],
)
def test_an_unusable_alias_is_refused(alias: str) -> None:
    with pytest.raises(FrequencyError):
        Frequency.parse(alias)


def test_an_error_is_told_in_plain_words() -> None:
    with pytest.raises(FrequencyError, match=r"^'fortnight': not a pandas frequency alias$"):
        Frequency.parse("fortnight")
    with pytest.raises(FrequencyError, match=r"'H': not a pandas frequency alias: .*use 'h' instead"):
        Frequency.parse("H")


@pytest.mark.parametrize("alias", ["h", "MS", "B"])
@pytest.mark.parametrize("steps", [10**9, -(10**9), 10**30])
def test_a_time_beyond_the_calendar_is_refused(alias: str, steps: int) -> None:
    with pytest.raises(FrequencyError):
        Frequency.parse(alias).add(ns("2024-01-01"), steps)


@given(st.sampled_from(["15min", "D", "MS", "QS", "B"]), st.integers(0, 1000))
def test_counting_undoes_adding(alias: str, steps: int) -> None:
    frequency = Frequency.parse(alias)
    start = ns("2001-01-01")
    assert frequency.steps_between(start, frequency.add(start, steps)) == steps


CALENDARS = ["D", "7D", "36h", "W-MON", "2W-MON", "MS", "ME", "2MS", "QS", "YS", "B", "BME", "SMS"]


@given(st.sampled_from(CALENDARS), st.integers(0, 150), st.integers(1, 60), st.data())
def test_many_times_are_located_as_one_is(alias: str, offset: int, count: int, data: st.DataObject) -> None:
    frequency = Frequency.parse(alias)
    begin = frequency.add(frequency.period_of(ns("2001-01-01")), offset)
    times = frequency.times(begin, count)
    assert times.tolist() == [frequency.add(begin, step) for step in range(count)]
    start = data.draw(st.sampled_from(times.tolist()))
    steps, fits = frequency.locate(start, times)
    assert fits.all()
    assert steps.tolist() == [frequency.steps_between(start, time) for time in times.tolist()]
    later = times + 10**9
    assert not frequency.locate(start, later)[1].any()
    assert frequency.locate(start, later)[0].tolist() == steps.tolist()


@pytest.mark.parametrize(
    ("alias", "time", "dated"),
    [
        ("MS", "2024-01-15", "2024-01-01"),
        ("ME", "2024-01-15", "2024-01-31"),
        ("QS", "2024-02-15", "2024-01-01"),
        ("W-SUN", "2024-01-17", "2024-01-21"),
        ("B", "2024-01-13", "2024-01-12"),
        ("MS", "2024-01-01", "2024-01-01"),
        ("D", "2024-01-01T07:00", "2024-01-01T07:00"),
    ],
)
def test_a_time_within_a_period_is_dated_by_it(alias: str, time: str, dated: str) -> None:
    assert Frequency.parse(alias).period_of(ns(time)) == ns(dated)


@pytest.mark.parametrize(
    ("alias", "other", "same"),
    [("h", "60min", True), ("D", "24h", True), ("QS", "QS-JAN", True), ("h", "2h", False), ("MS", "ME", False)],
)
def test_two_names_of_one_grid_are_the_same(alias: str, other: str, same: bool) -> None:
    assert Frequency.parse(alias).is_same(Frequency.parse(other)) is same


@pytest.mark.parametrize(("alias", "years"), [("YS", 1), ("40YS", 40), ("100YS", 100)])
def test_the_usual_step_of_a_calendar_is_its_mean(alias: str, years: int) -> None:
    day = 86_400 * 10**9
    assert Frequency.parse(alias).usual_step_ns / day / years == pytest.approx(365.25, abs=0.03)


@pytest.mark.parametrize(("alias", "counts"), [("h", False), ("23h", False), ("24h", True), ("D", True), ("MS", True)])
def test_steps_of_a_day_or_longer_count_days(alias: str, counts: bool) -> None:
    assert Frequency.parse(alias).counts_days is counts
