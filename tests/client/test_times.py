"""Times that callers have in an index or a list travel with the values; what an error advises works."""

import re
import warnings
from datetime import UTC, date, datetime, timedelta, timezone
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

import dateutil.tz  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
import pytz  # type: ignore[import-untyped]
from client.conftest import MakeClient
from support.servers import ServerThread

from statecast.client import Forecast, InvalidArgument, Observations, PreconditionFailed
from statecast.client._times import UNDATED, Dated, Reading, dated
from statecast.client._zones import zone_name

BERLIN = ZoneInfo("Europe/Berlin")
DAYS = pd.date_range("2024-03-29", periods=4, tz="Europe/Berlin")

WRITTEN = pd.to_datetime([*(day.isoformat() for day in DAYS[:3]), "2024-03-31T23:00:00+01:00"])


def ns(text: str) -> int:
    return pd.Timestamp(text).as_unit("ns").value


def series(*times: str) -> "pd.Series[float]":
    return pd.Series(np.arange(1.0, len(times) + 1), pd.DatetimeIndex(times))


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
    ("zone", "name"),
    [
        (UTC, "UTC"), (ZoneInfo("UTC"), "UTC"), (BERLIN, "Europe/Berlin"),
        (pytz.timezone("Asia/Kolkata"), "Asia/Kolkata"),
        (timezone(timedelta(hours=-3, minutes=-30)), "-03:30"), (pytz.FixedOffset(60), "+01:00"), (None, ""),
        (dateutil.tz.tzutc(), "UTC"), (dateutil.tz.tzoffset(None, 3600), "+01:00"), (pytz.utc, "UTC"),
    ],
)  # fmt: skip
def test_zones_are_called_as_the_server_knows_them(zone: Any, name: str) -> None:
    assert zone_name(zone) == name


def test_a_zone_without_a_name_is_warned_about_once() -> None:
    with resources.files("tzdata.zoneinfo").joinpath("Europe/Madrid").open("rb") as file:
        zone = ZoneInfo.from_file(file)
    with pytest.warns(UserWarning, match="time_zone='Europe/Berlin'"):
        assert zone_name(zone) == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert zone_name(zone) == ""


# Over a real server, with either client.


def test_a_series_is_filed_under_its_own_dates(client: Any, session_id: str) -> None:
    """What was asked for first: values of 1, 2 and 9 o'clock, not of 1, 2 and 3."""
    hours = series("2024-03-01T01:00", "2024-03-01T02:00", "2024-03-01T09:00")
    session = client.session(session_id, model="hourly")
    receipt = session.observe(hours, start_time=hours.index[0].tz_localize("UTC"))
    assert receipt.version.step == 9
    assert session.info().last_time == datetime(2024, 3, 1, 9, tzinfo=UTC)
    with pytest.raises(PreconditionFailed, match=r"observations\.times\[0\].*next step") as caught:
        session.observe(hours)
    assert caught.value.reason == "TIME_ORDER"
    later = series("2024-03-01T08:00", "2024-03-01T09:00", "2024-03-01T12:00")
    with pytest.raises(PreconditionFailed, match="send only those from 2024-03-01T10:00:00Z on") as caught:
        session.observe(later)
    since = pd.Timestamp(re.findall(r"from (\S+) on", str(caught.value))[0]).tz_localize(None)
    assert session.observe(later[later.index >= since]).version.step == 12


def test_hours_in_a_zone_are_instants(client: Any, session_id: str) -> None:
    index = pd.date_range("2024-03-30", "2024-04-01", freq="h", tz="Europe/Berlin")
    session = client.session(session_id, model="hourly")
    forecast = session.step(pd.Series(1.0, index), horizon=3)
    assert forecast.version.step == len(index) == 48
    assert forecast.time_zone == "Europe/Berlin"
    assert forecast.to_pandas().index.tolist() == [index[-1] + pd.Timedelta(hours=step) for step in (1, 2, 3)]
    assert str(forecast.to_pandas().index.tz) == "Europe/Berlin"
    assert session.info().time_zone == "Europe/Berlin"


def test_the_model_without_a_frequency_takes_any_series_in_order(client: Any, session_id: str) -> None:
    session = client.session(session_id, model="tiny")
    assert session.observe(series("2024-03-01", "2024-03-02", "2024-03-09")).version.step == 3
    assert session.observe(series("2024-03-01", "2024-03-02")).version.step == 5
    with pytest.raises(InvalidArgument, match="sort_index"):
        session.observe(series("2024-03-02", "2024-03-01"))


def test_daily_data_in_an_hourly_model_is_warned_about(client: Any, session_id: str) -> None:
    session = client.session(session_id, model="hourly")
    with pytest.warns(UserWarning, match="92 steps between these 5 observations are missing"):
        session.observe(pd.Series(1.0, pd.date_range("2024-03-01", periods=5)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.observe(pd.Series(1.0, pd.date_range("2024-03-06", periods=5)))  # once is enough
        holes = pd.date_range("2024-03-01", periods=48, freq="h").delete([3, 4, 5, 30])
        other = client.session(session_id + "-2", model="hourly")
        other.observe(pd.Series(1.0, holes))
        other.observe(pd.Series(1.0, pd.date_range("2024-03-20", periods=3, freq="h")))  # after a long silence


def test_a_session_in_a_zone_takes_times_without_one_as_local(client: Any, session_id: str) -> None:
    session = client.session(session_id, model="hourly", time_zone="Europe/Berlin", max_ahead=timedelta(days=3))
    session.observe(series("2024-03-31T01:00", "2024-03-31T03:00"))
    info = session.info()
    assert info.version.step == 2
    assert info.last_time == datetime(2024, 3, 31, 1, tzinfo=UTC)
    assert (info.time_zone, info.max_ahead) == ("Europe/Berlin", timedelta(days=3))
    session.observe(1.0, start_time=datetime(2024, 3, 31, 4))
    assert session.info().version.step == 3
    listed = next(each for each in client.sessions(session_id))
    assert listed == session.info()


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ({"time_zone": "Europe/Berln"}, "open.time_zone.*did you mean 'Europe/Berlin'"),
        ({"max_ahead": -1}, "open.max_ahead"),
        ({"max_ahead": timedelta(days=366_000)}, "open.max_ahead.*1,000 years"),
    ],
)
def test_wrong_options_are_refused_by_name(client: Any, session_id: str, others: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        client.session(session_id, model="hourly", **others).observe(1.0, start_time=datetime(2024, 3, 1, tzinfo=UTC))


def test_one_wrong_clock_is_refused_and_the_session_goes_on(client: Any, session_id: str) -> None:
    session, now = (
        client.session(session_id, model="hourly"),
        datetime.now(UTC).replace(minute=0, second=0, microsecond=0),
    )
    session.observe(1.0, start_time=now)
    with pytest.raises(PreconditionFailed, match="further ahead of the server's clock") as caught:
        session.observe(2.0, start_time=now + timedelta(days=365))
    assert caught.value.reason == "TIME_AHEAD"
    assert not caught.value.outcome_unknown
    assert session.observe(2.0, start_time=now + timedelta(hours=1)).version.step == 2
    free = client.session(session_id + "-2", model="hourly", max_ahead=0)
    assert free.observe([1.0, 2.0], times=[now, now + timedelta(days=365)]).version.step == 8761


def test_a_long_series_with_holes_travels_in_parts(client: Any, session_id: str) -> None:
    """Each request may span 10,000 steps, so parts that span more are cut in halves."""
    index = pd.date_range("2020-01-01", periods=30_000, freq="h")
    index = index[(np.arange(30_000) % 12_000) < 5000]
    session = client.session(session_id, model="hourly", time_to_live=60)
    receipt = session.observe(pd.Series(np.arange(float(len(index))), index), timeout_seconds=60)
    assert receipt.version.step == 29_000
    assert receipt.opened
    assert receipt.pit is not None
    assert len(receipt.pit) == 15_000
    # The client knows that nobody else was here, in spite of the gaps.
    assert session.observe(1.0).version.step == 29_001


def test_many_sessions_and_streams_take_times_too(
    make_client: MakeClient, server: ServerThread, session_id: str
) -> None:
    client = make_client(server.target)
    sessions = [client.session(f"{session_id}-{number}", model="hourly") for number in range(3)]
    hours = series("2024-03-01T01:00", "2024-03-01T04:00")
    receipts = client.observe_many([(session, hours) for session in sessions])
    assert [receipt.version.step for receipt in receipts] == [4, 4, 4]
    later = Observations([1.0, 2.0], times=pd.date_range("2024-03-01T05:00", periods=2, freq="2h"))
    results = [result for _, result in client.stream([(session, later) for session in sessions])]
    assert [result.version.step for result in results] == [7, 7, 7]
    assert Dated().times.size == 0


def test_the_zone_is_that_of_the_first_observations_that_are_taken(client: Any, session_id: str) -> None:
    session = client.session(session_id, model="hourly")
    tokyo = pd.date_range("2024-01-01", periods=2, freq="h", tz="Asia/Tokyo")
    with pytest.raises(InvalidArgument, match="not numbers"):
        session.observe(pd.Series(["a", "b"], tokyo))
    with pytest.raises(PreconditionFailed, match="further ahead"):
        session.observe(pd.Series([1.0, 2.0], tokyo + pd.Timedelta("40000D")))
    session.observe(pd.Series([1.0, 2.0], DAYS[:1].append(DAYS[:1] + pd.Timedelta("1h"))))
    assert session.info().time_zone == "Europe/Berlin"


def test_times_without_a_zone_are_refused_where_the_session_has_another_one(client: Any, session_id: str) -> None:
    session = client.session(session_id, model="hourly")
    session.observe(pd.Series([1.0], DAYS[:1]))
    with pytest.raises(InvalidArgument, match="counts days in Europe/Berlin") as caught:
        session.observe(series("2024-03-29T01:00"))
    assert "values.tz_localize('Europe/Berlin')" in caught.value.message
    assert session.observe(series("2024-03-29T01:00").tz_localize("Europe/Berlin")).version.step == 2
    named = client.session(session_id, model="hourly", time_zone="Europe/Berlin")
    assert named.observe(series("2024-03-29T02:00")).version.step == 3
    with pytest.raises(InvalidArgument, match="counts days in Europe/Berlin"):
        session.fork(session_id + "-2").observe(series("2024-03-29T03:00"))


def test_utc_is_a_zone_that_can_be_named(client: Any, session_id: str) -> None:
    session = client.session(session_id, model="hourly", time_zone=UTC)
    session.observe(pd.Series([1.0], DAYS[:1]))
    assert session.info().time_zone == ""
    session.observe(1.0, start_time=datetime(2024, 3, 29, 0))
    assert session.info().version.step == 2


def test_future_covariates_of_other_steps_are_warned_about(knowing: Any, session_id: str) -> None:
    session = knowing.session(session_id, model="dated")
    days = pd.date_range("2024-01-01", periods=9)
    known = pd.DataFrame({"price": 1.0, "holiday": 0.0}, days)
    session.observe(pd.Series(range(5), days[:5]), covariates=known[:5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.forecast(3, future_covariates=known[5:8])
    with pytest.warns(UserWarning, match="dated otherwise"):
        session.forecast(3, future_covariates=known[6:])
    with pytest.raises(InvalidArgument, match="not after the last observation"):
        session.forecast(3, future_covariates=known[4:7])


def test_an_error_in_a_later_part_says_what_was_taken(client: Any, session_id: str) -> None:
    index = pd.date_range("2020-01-01", periods=9000, freq="h").to_series()
    index.iloc[8500] += pd.Timedelta("7min")
    session = client.session(session_id, model="hourly")
    with pytest.raises(InvalidArgument, match=r"times\[940\].*first 7560 values of this call were taken") as caught:
        session.observe(pd.Series(1.0, pd.DatetimeIndex(index)))
    assert caught.value.values_taken == 7560
    assert session.info().version.step == 7560


def test_a_call_about_many_names_the_session_that_is_wrong(client: Any, session_id: str) -> None:
    sessions = [client.session(f"{session_id}-{number}", model="hourly") for number in range(2)]
    right, wrong = series("2024-01-01"), series("2024-01-02", "2024-01-01")
    with pytest.raises(InvalidArgument, match=f"session '{session_id}-1': observations") as caught:
        client.observe_many([(sessions[0], right), (sessions[1], wrong)])
    assert caught.value.field == "observations.times[1]"


@pytest.mark.parametrize("many", [False, True])
def test_sparse_series_travel_in_parts_too(client: Any, session_id: str, many: bool) -> None:
    """A row for every hundredth step: the client cannot know how many steps lie between."""
    index = pd.date_range("2020-01-01", periods=300, freq="100h")
    session, values = client.session(session_id, model="hourly"), pd.Series(np.arange(300.0), index)

    def step() -> Forecast:
        result: Forecast = client.step_many([(session, values)], 3)[0] if many else session.step(values, 3)
        return result

    with pytest.warns(UserWarning, match="are missing"):
        forecast = step()
    assert forecast.version.step == 29_901
    assert forecast.opened
    assert forecast.pit is not None
    assert forecast.pit.shape == (300, 1)
    assert forecast.start_time == index[-1].tz_localize("UTC") + pd.Timedelta("1h")
    last = index[-1] + pd.to_timedelta([8000, 16_000], "h")
    with pytest.raises(InvalidArgument, match="send the rows in several requests") as caught:
        session.observe([1.0, 2.0], times=last, request_id="mine")
    assert caught.value.reason == "SPAN_TOO_LONG"
    assert session.observe([1.0, 2.0], times=last).version.step == 45_901


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (pd.DataFrame({"t": DAYS}).to_numpy(), "2 dimensions"), (np.datetime64("2024-01-01"), "0 dimensions"),
        (np.array("2024-01-01", "M8[D]"), "0 dimensions"), ({datetime(2024, 1, 1, tzinfo=UTC)}, "not a sequence"),
    ],
)  # fmt: skip
def test_what_is_no_row_of_times_is_refused(times: Any, says: str) -> None:
    assert says in refused([1.0] * 4, times=times).message


def test_a_session_in_utc_is_opened_again_in_its_zone_as_advised(knowing: Any, session_id: str) -> None:
    session = knowing.session(session_id, model="daily", time_zone="UTC")
    midnights = pd.Series(range(4), pd.date_range("2024-03-29", periods=4, tz="Europe/Berlin"))
    with pytest.raises(InvalidArgument, match=r"time_zone='Europe/\.\.\.'.*close it first if it exists") as caught:
        session.observe(midnights)
    assert caught.value.field == "observations.times[3]"
    session.observe(midnights[:3])  # which begin at 23:00 in UTC
    session.close()
    again = knowing.session(session_id, model="daily", time_zone="Europe/Berlin")
    assert again.observe(midnights).version.step == 4
    offsets = pd.Series(range(3), pd.to_datetime([day.isoformat() for day in midnights.index[:3]]))
    fixed = knowing.session(session_id + "-2", model="daily")
    fixed.observe(offsets)
    assert fixed.info().time_zone == "+01:00"
    with pytest.raises(InvalidArgument, match=r"days of \+01:00.*time_zone='Europe/\.\.\.'"):
        fixed.observe(midnights[3:])


def test_a_session_that_may_run_ahead_is_opened_again_as_advised(client: Any, session_id: str) -> None:
    session, now = (
        client.session(session_id, model="hourly"),
        datetime.now(UTC).replace(minute=0, second=0, microsecond=0),
    )
    session.observe(1.0, start_time=now)
    ahead = now + timedelta(days=30)
    with pytest.raises(PreconditionFailed, match=r"larger max_ahead, 0 for any time \(close it first if it exists\)"):
        session.observe(2.0, start_time=ahead)
    session.close()
    for max_ahead in (0, timedelta(days=31)):
        again = client.session(session_id, model="hourly", max_ahead=max_ahead)
        again.observe(2.0, start_time=ahead)
        again.close()


def test_a_naive_datetime_is_taken_either_way_as_advised(client: Any, session_id: str) -> None:
    session, naive = client.session(session_id, model="hourly"), datetime(2024, 3, 1)
    with pytest.raises(InvalidArgument, match=r"time\.replace\(tzinfo=timezone\.utc\), or name that of the session"):
        session.observe(1.0, start_time=naive)
    session.observe(1.0, start_time=naive.replace(tzinfo=UTC))
    client.session(session_id + "-2", model="hourly", time_zone="Europe/Berlin").observe(1.0, start_time=naive)
