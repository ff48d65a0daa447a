"""Times that callers have in an index or a list travel with the values; the advice in an error works."""

import re
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from client.conftest import DAYS, MakeClient, series
from support.servers import ServerThread

from statecast.client import Forecast, InvalidArgument, Observations, PreconditionFailed
from statecast.client._times import Dated

WITH_HOLES = pytest.mark.filterwarnings("ignore:session .* steps between these .* are missing:UserWarning")
"""For series with holes on purpose, about which the client warns."""


@WITH_HOLES
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


@WITH_HOLES
def test_a_session_may_bring_the_frequency_of_its_own_data(client: Any, session_id: str) -> None:
    hours = series("2024-03-30T22:00", "2024-03-30T23:00", "2024-03-31T04:00")
    session = client.session(session_id, model="tiny", frequency="h", time_zone="Europe/Berlin")
    forecast = session.step(hours, horizon=2)
    assert (forecast.version.step, forecast.frequency, forecast.time_zone) == (6, "h", "Europe/Berlin")
    expected = pd.DatetimeIndex(["2024-03-31T05:00", "2024-03-31T06:00"], tz="Europe/Berlin")
    assert forecast.to_pandas().index.tolist() == expected.tolist()
    info = session.info()
    assert (info.frequency, info.last_time) == ("h", datetime(2024, 3, 31, 2, tzinfo=UTC))
    assert next(iter(client.sessions(session_id))) == info
    assert session.fork(f"{session_id}-fork").info().frequency == "h"
    # Whoever resumes it need not name the frequency, and may name no other.
    assert client.session(session_id).observe(4.0).version.step == 7
    with pytest.raises(PreconditionFailed, match="has steps of 'h'; close it first to open it with 'D'") as caught:
        client.session(session_id, frequency="D").observe(5.0)
    assert caught.value.reason == "OTHER_FREQUENCY"
    assert client.session(f"{session_id}-hourly", model="hourly", frequency="60min").observe(hours).version.step == 7


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ({"frequency": "fortnight"}, "open.frequency: 'fortnight': not a pandas frequency alias.*such as 'h'"),
        ({"frequency": "9223372036854775807h"}, "open.frequency.*not a pandas frequency alias"),
        ({"frequency": "1" * 33}, "open.frequency: 33 characters are more than 32"),
        ({"frequency": "15min"}, "open.frequency: '15min', but hourly version 1 has steps of 'h'; leave the frequency"),
        ({"time_zone": "Europe/Berln"}, "open.time_zone.*did you mean 'Europe/Berlin'"),
        ({"max_ahead": -1}, "open.max_ahead"),
        ({"max_ahead": timedelta(days=366_000)}, "open.max_ahead.*1,000 years"),
    ],
)
def test_wrong_options_are_refused_by_name(client: Any, session_id: str, others: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        client.session(session_id, model="hourly", **others).observe(1.0, start_time=datetime(2024, 3, 1, tzinfo=UTC))


@WITH_HOLES
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


@WITH_HOLES
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
