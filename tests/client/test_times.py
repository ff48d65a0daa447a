"""Times in an index or a list are read in their zone or the session's; others are refused, and the advice works."""

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
import pytz  # type: ignore[import-untyped]
from client.conftest import DAYS, series

from statecast.client import InvalidArgument, Observations
from statecast.client._times import UNDATED, Reading, dated

BERLIN = ZoneInfo("Europe/Berlin")

WRITTEN = pd.to_datetime([*(day.isoformat() for day in DAYS[:3]), "2024-03-31T23:00:00+01:00"])


def ns(text: str) -> int:
    return pd.Timestamp(text).as_unit("ns").value


def refused(values: Any, zone: str = "", **others: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        dated(Observations(values, **others), Reading(zone))
    return caught.value


EXPECTED = [ns(f"2024-03-{day}T23:00Z") for day in (28, 29, 30)] + [ns("2024-03-31T22:00Z")]


@pytest.mark.parametrize(
    ("observed", "zone"),
    [
        (Observations(pd.Series(range(4), DAYS)), "Europe/Berlin"),
        (Observations(pd.DataFrame({"a": range(4)}, DAYS)), "Europe/Berlin"),
        (Observations(range(4), times=DAYS), "Europe/Berlin"),
        (Observations(range(4), times=pd.Series(DAYS, [7, 8, 9, 10])), "Europe/Berlin"),
        (Observations(range(4), times=list(DAYS)), "Europe/Berlin"),
        (Observations(range(4), times=[day.to_pydatetime() for day in DAYS]), "Europe/Berlin"),
        (Observations(range(4), times=DAYS.tz_convert("UTC")), "UTC"),
        (Observations(range(4), times=DAYS.tz_convert("UTC").tz_localize(None)), ""),
        (Observations(range(4), times=DAYS.tz_convert("UTC").tz_localize(None).to_numpy()), ""),
        (Observations(pd.Series(range(4), DAYS.astype(object))), "Europe/Berlin"),
        (Observations(pd.Series(range(4), DAYS.as_unit("s"))), "Europe/Berlin"),
        (Observations(pd.Series(range(4), DAYS), start_time=DAYS[0]), "Europe/Berlin"),
        (Observations(range(4), times=[datetime(2024, 3, day, tzinfo=BERLIN) for day in (29, 30, 31)] + [DAYS[3]]),
         "Europe/Berlin"),
        (Observations(range(4), times=DAYS.tz_convert(pytz.timezone("Europe/Paris"))), "Europe/Paris"),
        (Observations(range(4), times=WRITTEN), "+01:00"),
    ],
)  # fmt: skip
def test_times_come_in_many_forms(observed: Observations, zone: str) -> None:
    found = dated(observed, Reading())
    assert found.times.tolist() == EXPECTED
    assert (found.start, found.zone) == (None, zone)


@pytest.mark.parametrize(
    "values",
    [
        20.1, [1, 2], np.ones(3), pd.Series([1.0, 2.0]), pd.Series([1.0], ["pump"]), pd.DataFrame({"a": [1.0]}),
        pd.Series([1.0, 2.0], pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])), pd.Series([1.0], pd.Index([2024])), (),
    ],
)  # fmt: skip
def test_what_has_no_times_sends_none(values: Any) -> None:
    assert dated(Observations(values), Reading()) is UNDATED


def test_an_empty_series_has_no_times() -> None:
    assert dated(Observations(pd.Series([], pd.DatetimeIndex([]), dtype=float)), Reading()).times.size == 0


@pytest.mark.parametrize(
    ("time", "zone", "expected"),
    [
        (datetime(2024, 3, 31, tzinfo=BERLIN), "", "2024-03-30T23:00Z"),
        (datetime(2024, 3, 31), "Europe/Berlin", "2024-03-30T23:00Z"),
        (pd.Timestamp("2024-03-31"), "Europe/Berlin", "2024-03-30T23:00Z"),
        (np.datetime64("2024-03-31"), "Europe/Berlin", "2024-03-30T23:00Z"),
        (np.datetime64("2024-03-31"), "", "2024-03-31T00:00Z"),
        (np.datetime64("2024-03-31"), "+05:30", "2024-03-30T18:30Z"),
        (pd.Timestamp("2024-03-31T00:00:00.000000001Z"), "", "2024-03-31T00:00:00.000000001Z"),
        (datetime(1700, 1, 1, tzinfo=UTC), "", "1700-01-01T00:00Z"),
        (np.datetime64("2018-11-04"), "America/Sao_Paulo", "2018-11-04T03:00Z"),  # skipped
    ],
)
def test_a_start_time_is_read_in_its_zone_or_the_sessions(time: Any, zone: str, expected: str) -> None:
    assert dated(Observations(1.0, start_time=time), Reading(zone)).start == ns(expected)
    many = dated(
        Observations([1.0], times=[time] if not isinstance(time, np.datetime64) else np.array([time])), Reading(zone)
    )
    assert many.times.tolist() == [ns(expected)]


def test_an_index_of_periods_is_dated_by_their_beginnings() -> None:
    periods = pd.period_range("2024-01", periods=2, freq="M")
    found = dated(Observations(pd.Series([1.0, 2.0], periods)), Reading())
    assert found.times.tolist() == [ns("2024-01-01"), ns("2024-02-01")]


def test_an_unsorted_series_is_taken_once_it_is_sorted_as_advised() -> None:
    values = series("2024-01-01", "2024-01-03", "2024-01-02")
    error = refused(values)
    assert error.field == "observations.times[2]"
    assert "2024-01-02 00:00:00 is earlier than 2024-01-03 00:00:00" in error.message
    assert "values.sort_index()" in error.message
    assert dated(Observations(values.sort_index()), Reading()).times.size == 3


def test_a_series_with_a_time_twice_is_taken_without_it_as_advised() -> None:
    values = series("2024-01-01", "2024-01-02", "2024-01-02")
    error = refused(values)
    assert error.field == "observations.times[2]"
    assert "values[~values.index.duplicated(keep='last')]" in error.message
    assert dated(Observations(values[~values.index.duplicated(keep="last")]), Reading()).times.size == 2


@pytest.mark.parametrize(
    "index",
    [
        ["2024-03-01", "2024-03-02"], [date(2024, 3, 1), date(2024, 3, 2)], ["03/01/2024", "03/02/2024"],
        ["2024/3/1", "2024/3/2"], ["20240301", "20240302"], ["2024-03-01T00:00Z", "2024-03-02T00:00Z"],
    ],
)  # fmt: skip
def test_dates_as_text_are_taken_once_they_are_converted_as_advised(index: Any) -> None:
    values = pd.Series([1.0, 2.0], index)
    assert "values.index = pd.to_datetime(values.index)" in refused(values).message
    values.index = pd.to_datetime(values.index)
    assert dated(Observations(values), Reading()).times.tolist() == [ns("2024-03-01"), ns("2024-03-02")]


@pytest.mark.parametrize(
    ("others", "field", "says"),
    [
        ({"times": [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2)]}, "observations.times[1]", "no time zone"),
        ({"times": [datetime(2024, 1, 1), datetime(2024, 1, 2, tzinfo=UTC)]}, "observations.times[1]", "a time zone"),
        ({"times": [datetime(2024, 1, 1), datetime(2024, 1, 2)]}, "observations.times[0]", "time_zone='Europe/Berlin'"),
        ({"times": ["2024-01-01", "2024-01-02"]}, "observations.times[0]", "not a datetime"),
        ({"times": "2024-01-01"}, "observations.times", "not a sequence"),
        ({"times": pd.DatetimeIndex(["2024-01-01", None])}, "observations.times[1]", "NaT"),
        ({"times": [pd.NaT, pd.NaT]}, "observations.times[0]", "NaT"),
        ({"times": np.array(["2024-01-01", "NaT"], "M8[D]")}, "observations.times[1]", "NaT"),
        ({"times": np.array(["1500-01-01", "2024-01-01"], "M8[s]")}, "observations.times[0]", "1678 to 2261"),
        ({"times": [datetime(2024, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)]}, "observations.times[1]",
         "1678 to 2261"),
        ({"start_time": datetime(1600, 1, 1, tzinfo=UTC)}, "observations.start_time", "1678 to 2261"),
        ({"start_time": datetime(2024, 1, 1)}, "observations.start_time", "has no time zone"),
        ({"start_time": "2024-01-01"}, "observations.start_time", "not a datetime"),
        ({"start_time": datetime(2024, 1, 1, tzinfo=UTC), "times": [datetime(2024, 1, 1, tzinfo=UTC)] * 2},
         "observations.times", "leave out one of the two"),
    ],
)  # fmt: skip
def test_times_that_cannot_be_are_refused_by_row(others: Any, field: str, says: str) -> None:
    error = refused([1.0, 2.0], **others)
    assert error.field == field
    assert says in error.message


def test_a_start_time_must_be_that_of_the_index() -> None:
    values = series("2024-03-01", "2024-03-02")
    error = refused(values, start_time=datetime(2024, 3, 2, tzinfo=UTC))
    assert error.field == "observations.start_time"
    assert "values.to_numpy()" in error.message
    assert dated(Observations(values.to_numpy(), start_time=datetime(2024, 3, 2, tzinfo=UTC)), Reading()).start


@pytest.mark.parametrize(
    "index", [pd.timedelta_range("1D", periods=2), pd.interval_range(pd.Timestamp("2024-01-01"), periods=2)]
)
def test_an_index_that_holds_no_times_but_looks_so_is_refused(index: Any) -> None:
    assert "values.to_numpy()" in refused(pd.Series([1.0, 2.0], index)).message


def test_an_index_of_arrow_is_read() -> None:
    index = pd.Index(DAYS).astype(pd.ArrowDtype(pa.timestamp("ns", "Europe/Berlin")))
    assert dated(Observations(pd.Series(range(4), index)), Reading()).times.tolist() == EXPECTED


HOURS = ("2024-10-27T01:00", "2024-10-27T02:00", "2024-10-27T02:00", "2024-10-27T03:00")


def test_a_repeated_hour_is_taken_once_it_is_told_apart_as_advised() -> None:
    values = series(*HOURS)
    error = refused(values, "Europe/Berlin")
    assert error.field == "observations.times[2]"
    assert "values.tz_localize('Europe/Berlin', ambiguous='infer')" in error.message
    told_apart = values.tz_localize("Europe/Berlin", ambiguous="infer")
    times = dated(Observations(told_apart), Reading("Europe/Berlin")).times
    assert np.diff(times).tolist() == [3_600_000_000_000] * 3
    assert "is there twice" in refused(series("2024-10-27T05:00", "2024-10-27T05:00"), "Europe/Berlin").message


def test_a_skipped_hour_is_taken_in_standard_time_as_advised() -> None:
    values = series("2024-03-31T01:00", "2024-03-31T02:00", "2024-03-31T03:00")
    error = refused(values, "Europe/Berlin")
    assert error.field == "observations.times[1]"
    assert "is skipped by the clocks of Europe/Berlin" in error.message
    assert "'+01:00'" in error.message
    assert np.diff(dated(Observations(values), Reading("+01:00")).times).tolist() == [3_600_000_000_000] * 2


@pytest.mark.parametrize(
    ("zone", "says"),
    [("Europe/Berln", "did you mean 'Europe/Berlin'"), ("+24:00", "fixed offset"), ("x", "pip install tzdata")],
)
def test_a_zone_that_is_none_is_refused(zone: str, says: str) -> None:
    error = refused(series("2024-01-01"), zone)
    assert error.field == "open.time_zone"
    assert says in error.message


@pytest.mark.parametrize("zone", ["+05", "+0500", "+05:00"])
def test_offsets_are_written_as_the_server_reads_them(zone: str) -> None:
    assert dated(Observations(series("2024-01-01")), Reading(zone)).times.tolist() == [ns("2023-12-31T19:00Z")]


def test_an_index_of_several_levels_is_refused_if_times_are_among_them() -> None:
    index = pd.MultiIndex.from_product([["a"], DAYS])
    assert "several levels" in refused(pd.Series(range(4), index)).message


def test_covariates_must_be_those_of_the_same_times() -> None:
    values, known = series("2024-01-01", "2024-01-02"), series("2024-01-03", "2024-01-01", "2024-01-02")
    error = refused(values, covariates=known)
    assert error.field == "observations.covariates"
    assert "covariates.loc[values.index]" in error.message
    assert dated(Observations(values, covariates=known.loc[values.index]), Reading()).times.size == 2
    ahead = refused(values, future_covariates=series("2024-01-02", "2024-01-03"))
    assert ahead.field == "future_covariates"
    assert refused(values, future_covariates=series("2024-01-04", "2024-01-03")).field == "future_covariates[1]"
    assert refused([1.0, 2.0], covariates=known[::-1]).field.startswith("observations.covariates")
    assert dated(Observations(values, future_covariates=series("2024-01-03", "2024-01-04")), Reading()).times.size == 2


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (pd.DataFrame({"t": DAYS}).to_numpy(), "2 dimensions"), (np.datetime64("2024-01-01"), "0 dimensions"),
        (np.array("2024-01-01", "M8[D]"), "0 dimensions"), ({datetime(2024, 1, 1, tzinfo=UTC)}, "not a sequence"),
    ],
)  # fmt: skip
def test_what_is_no_row_of_times_is_refused(times: Any, says: str) -> None:
    assert says in refused([1.0] * 4, times=times).message
