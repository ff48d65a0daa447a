"""Data frames of pandas and polars go in and come out; a notebook that runs again appends nothing twice."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from statecast.client import InvalidArgument, NotFound, PreconditionFailed, SeriesFailed

HORIZON = 6
HOURS = pd.date_range("2024-03-01", periods=20, freq="h")


def long(session_id: str, series: int = 3, rows: int = 20, **others: Any) -> pd.DataFrame:
    """Return a long frame of hourly series; `others` are further columns."""
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "unique_id": np.repeat([f"{session_id}-{number}" for number in range(series)], rows),
            "ds": np.tile(HOURS[:rows].to_numpy(), series),
            "y": random.normal(10, 2, series * rows).round(2),
            **others,
        }
    )


def test_a_frame_gives_the_forecasts_of_its_series(client: Any, session_id: str) -> None:
    frame = long(session_id)
    made = client.step_frame(frame.sample(frac=1, random_state=1), HORIZON, "hourly", prefix="frame/")
    assert list(made.columns) == ["unique_id", "ds", "q0.1", "q0.5", "q0.9"]
    assert len(made) == 3 * HORIZON
    for id_, rows in frame.groupby("unique_id"):
        other = client.session(f"{id_}-alone", model="hourly")
        forecast = other.step(pd.Series(rows.y.to_numpy(), rows.ds), HORIZON)
        own = made[made.unique_id == id_]
        assert own[["q0.1", "q0.5", "q0.9"]].to_numpy() == pytest.approx(forecast.values[:, :, 0], abs=1e-5)
        assert own.ds.tolist() == forecast.to_pandas().index.tz_localize(None).tolist()
        assert own.ds.dtype == frame.ds.dtype
    again = client.forecast_frame(frame, HORIZON, "hourly", prefix="frame/").set_index(["unique_id", "ds"])
    assert np.array_equal(again.loc[made.set_index(["unique_id", "ds"]).index].to_numpy(), made.to_numpy()[:, 2:])


def test_a_frame_sent_again_appends_only_what_is_new(client: Any, session_id: str) -> None:
    frame = long(session_id)
    first = client.observe_frame(frame[frame.ds < HOURS[12]], "hourly")
    assert first.appended.tolist() == first.step.tolist() == [12, 12, 12]
    counts = client.observe_frame(frame, "hourly")
    assert counts.appended.tolist() == [8, 8, 8]
    assert counts.step.tolist() == [20, 20, 20]
    again = client.observe_frame(frame, "hourly")
    assert (again.appended.tolist(), again.step.tolist()) == ([0, 0, 0], [20, 20, 20])
    client.step_frame(frame, 2, "hourly")
    assert client.session(f"{session_id}-1").info().version.step == 20
    # Its state is that of the rows in one go.
    alone = client.session(f"{session_id}-alone", model="hourly")
    alone.observe(pd.Series(frame.y[:20].to_numpy(), HOURS))
    assert alone.version == client.session(f"{session_id}-0").info().version


def test_polars_and_pandas_agree(client: Any, session_id: str) -> None:
    frame = long(session_id)
    expected = client.step_frame(frame, HORIZON, "hourly", prefix="pd/")
    given = pl.from_pandas(frame)
    made = client.step_frame(given, HORIZON, "hourly", prefix="pl/")
    assert isinstance(made, pl.DataFrame)
    assert made.schema["ds"] == given.schema["ds"]
    assert made["unique_id"].to_list() == expected.unique_id.tolist()
    assert made["ds"].to_list() == expected.ds.tolist()
    assert made.select("q0.1", "q0.5", "q0.9").to_numpy() == pytest.approx(expected.to_numpy()[:, 2:].astype(float))
    with pytest.raises(InvalidArgument, match=r"pandas or polars, got LazyFrame; compute it first, as by collect"):
        client.step_frame(given.lazy(), HORIZON, "hourly")


def test_names_of_columns_and_missing_values(client: Any, session_id: str) -> None:
    frame = pl.from_pandas(long(session_id, 1)).rename({"unique_id": "meter", "ds": "at", "y": "kwh"})
    frame = frame.with_columns(pl.when(pl.col("kwh") >= 9).then(pl.col("kwh").round()).cast(pl.Int64))
    names = {"id_col": "meter", "time_col": "at", "target_col": "kwh"}
    with pytest.raises(InvalidArgument, match=r"frame: has no column 'unique_id', only .*; name yours by id_col="):
        client.observe_frame(frame, "hourly")
    made = client.step_frame(frame, 1, "hourly", quantile_levels=[0.25], **names)
    assert made.columns == ["meter", "at", "q0.25"]
    other = client.session(f"{session_id}-x", model="hourly")
    expected = other.step(frame["kwh"].to_list(), 1, quantile_levels=[0.25], times=HOURS)
    assert made["q0.25"][0] == pytest.approx(float(expected.values[0, 0, 0]))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_times_keep_their_zone_and_days_are_its_own(knowing: Any, session_id: str, library: str) -> None:
    days = pd.date_range("2024-03-29", periods=4, tz="Europe/Berlin")  # the clocks change on the 31st
    frame: Any = pd.DataFrame({"unique_id": session_id, "ds": days, "y": [1.0, 2.0, 3.0, 4.0]})
    given = frame if library == "pandas" else pl.from_pandas(frame)
    made = knowing.step_frame(given, 2, "daily")
    assert knowing.session(session_id).info().time_zone == "Europe/Berlin"
    assert made["ds"].dtype == given["ds"].dtype
    assert [str(each) for each in made["ds"]] == ["2024-04-02 00:00:00+02:00", "2024-04-03 00:00:00+02:00"]
    assert knowing.observe_frame(given, "daily")["appended"].to_list() == [0]
    with pytest.raises(SeriesFailed, match="counts days in Europe/Berlin") as caught:
        knowing.observe_frame(frame.assign(ds=days.tz_localize(None)), "daily")
    assert list(caught.value.errors) == [session_id]
    local = frame.assign(ds=days.tz_localize(None) + pd.Timedelta("1D"))
    counts = knowing.observe_frame(local, "daily", time_zone="Europe/Berlin")
    assert counts.appended.tolist() == [1]


def test_dates_come_back_as_dates(knowing: Any, session_id: str) -> None:
    days = pl.date_range(pl.date(2024, 3, 1), pl.date(2024, 3, 5), eager=True)
    frame = pl.DataFrame({"unique_id": [session_id] * 5, "ds": days, "y": range(5)})
    made = knowing.step_frame(frame, 2, "daily")
    assert made.schema["ds"] == pl.Date
    assert [str(day) for day in made["ds"]] == ["2024-03-06", "2024-03-07"]


def test_covariates_of_the_future_are_found_by_their_times(knowing: Any, session_id: str) -> None:
    days, random = pd.date_range("2024-01-01", periods=12), np.random.default_rng(1)
    known = pd.DataFrame(random.normal(size=(12, 2)), days, ["price", "holiday"])
    ids = [f"{session_id}-{number}" for number in range(2)]
    everything = pd.concat([known.assign(unique_id=id_, ds=days, region="north") for id_ in ids])
    frame = everything[everything.ds < days[8]].assign(y=range(16))
    future = everything.drop(columns="region").sample(frac=1, random_state=2)
    made = knowing.step_frame(frame, 3, "dated", future=future)
    alone = knowing.session(f"{session_id}-x", model="dated", categories={"region": "north"})
    expected = alone.step(pd.Series(range(8), days[:8]), 3, covariates=known[:8], future_covariates=known[8:11])
    assert made[made.unique_id == ids[0]]["q0.5"].to_numpy() == pytest.approx(expected.median, abs=1e-5)
    assert knowing.session(ids[0]).info().categories == {"region": "north"}
    again = knowing.step_frame(frame, 3, "dated", future=future)
    assert again["q0.5"].to_numpy() == pytest.approx(made["q0.5"].to_numpy())
    only = knowing.forecast_frame(frame, 3, "dated", future=future)
    assert only["q0.5"].to_numpy() == pytest.approx(made["q0.5"].to_numpy())
    short = future[(future.unique_id == ids[0]) & (future.ds != days[9])]
    with pytest.raises(SeriesFailed) as caught:
        knowing.forecast_frame(frame, 3, "dated", future=short)
    says = [error.message for error in caught.value.errors.values()]
    assert "future: has no row of this series at 2024-01-10T00:00:00Z; add it" in says[0]
    assert "future: has no rows of this series; add them" in says[1]


def test_a_series_that_fails_does_not_stop_the_others(client: Any, session_id: str) -> None:
    frame = long(session_id, 4)
    frame.loc[3, "y"] = 1e31
    frame.loc[25, "ds"] = HOURS[4]
    frame.loc[45, "ds"] = HOURS[5] + pd.Timedelta("7min")
    with pytest.raises(SeriesFailed, match="3 of 4 series failed, the first with: series ") as caught:
        client.step_frame(frame, 2, "hourly")
    failed = caught.value
    assert list(failed.errors) == [f"{session_id}-{number}" for number in range(3)]
    says = [error.message for error in failed.errors.values()]
    assert "observations.values[3]" in says[0]
    assert "there twice" in says[1]
    assert "observations.times[5]" in says[2]
    assert all(message.startswith(f"series '{id_}': ") for id_, message in zip(failed.errors, says, strict=True))
    assert failed.frame.unique_id.tolist() == [f"{session_id}-3"] * 2
    again = pickle.loads(pickle.dumps(failed))
    assert str(again) == str(failed)
    with pytest.raises(SeriesFailed) as caught:
        client.forecast_frame(frame, 2, "hourly")
    assert all(isinstance(error, NotFound) for error in caught.value.errors.values())
    assert len(caught.value.errors) == 3


def test_without_a_frequency_a_session_that_exists_is_refused_unless_all_rows_are_new(
    client: Any, session_id: str
) -> None:
    frame = long(session_id, 2)
    made = client.step_frame(frame, 2, "tiny")
    assert list(made.columns) == ["unique_id", "step", "q0.1", "q0.5", "q0.9"]
    assert made.step.tolist() == [1, 2, 1, 2]
    with pytest.raises(SeriesFailed, match=r"rows: the session has 20 steps and no frequency, so nothing tells"):
        client.step_frame(frame, 2, "tiny")
    counts = client.observe_frame(frame.assign(ds=range(40)), "tiny", rows="all")
    assert counts.step.tolist() == [40, 40]
    with pytest.raises(SeriesFailed, match=r"series .*: ds: 0 is there twice"):
        client.observe_frame(frame.assign(ds=0), "tiny", rows="all")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frequency_of_its_own_gives_a_model_without_one_times(client: Any, session_id: str, library: str) -> None:
    holes = long(session_id, 2)
    holes = holes[holes.ds != HOURS[7]]
    as_given = pl.from_pandas if library == "polars" else pd.DataFrame
    first = client.step_frame(as_given(holes[holes.ds < HOURS[12]]), 2, "tiny", frequency="h")
    assert list(first.columns) == ["unique_id", "ds", "q0.1", "q0.5", "q0.9"]
    assert [pd.Timestamp(each) for each in first["ds"]] == [*HOURS[12:14], *HOURS[12:14]]
    # Afterwards nobody needs to name it: rows are sent with their times.
    counts = client.observe_frame(as_given(holes[holes.ds < HOURS[15]]), "tiny")
    assert (list(counts["appended"]), list(counts["step"])) == ([3, 3], [15, 15])
    rest = holes[holes.ds >= HOURS[16]]
    assert list(client.observe_frame(as_given(rest), "tiny", rows="all")["step"]) == [20, 20]
    again = client.step_frame(as_given(holes), 2, "tiny", frequency="h")
    assert [pd.Timestamp(each) for each in again["ds"]][:2] == [
        each + pd.Timedelta("1h") for each in (HOURS[-1], HOURS[-1] + pd.Timedelta("1h"))
    ]
    expected = client.session(f"{session_id}-alone", model="hourly")
    alone = holes[(holes.unique_id == f"{session_id}-0") & (holes.ds != HOURS[15])]
    forecast = expected.step(pd.Series(alone.y.to_numpy(), alone.ds), 2)
    assert list(again["q0.5"])[:2] == pytest.approx(forecast.median.tolist(), abs=1e-4)
    with pytest.raises(SeriesFailed, match="ds: holds integers, but steps of 'h' need times"):
        client.observe_frame(as_given(holes.assign(ds=range(len(holes)))), "tiny", frequency="h")


def test_sessions_of_another_model_are_refused(client: Any, session_id: str) -> None:
    client.observe_frame(long(session_id, 1, 5), "hourly")
    with pytest.raises(SeriesFailed) as caught:
        client.observe_frame(long(session_id, 1), "tiny", rows="all")
    (error,) = caught.value.errors.values()
    assert isinstance(error, PreconditionFailed)
    assert error.reason == "OTHER_MODEL"


def test_several_targets_and_symbols(client: Any, knowing: Any, session_id: str) -> None:
    frame = long(session_id, 1).assign(p=1.0, h=2.0)
    with pytest.raises(InvalidArgument, match=r"target_col: names 1 columns, but model 'three' has the targets"):
        client.step_frame(frame, 1, "three")
    made = client.step_frame(frame, 1, "three", target_col=["y", "p", "h"])
    expected = client.session(f"{session_id}-x", model="three").step(frame[["y", "p", "h"]].to_numpy(), 1)
    assert list(made.columns[2:5]) == ["flow_q0.1", "flow_q0.5", "flow_q0.9"]
    assert made["heat_q0.9"][0] == pytest.approx(float(expected.values[0, 2, 2]), abs=1e-5)
    letters = knowing.step_frame(long(session_id, 1).assign(y=[0, 1] * 10), 1, "letters")
    assert list(letters.columns) == ["unique_id", "step", "p_a", "p_b", "p_c", "p_d"]
    assert letters.iloc[0, 2:].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"ds": "2024-03-01"}, "column 'ds' holds String, not times; convert it", id="text"),
        pytest.param({"ds": pd.NaT}, "column 'ds' has rows without a time; drop them", id="NaT"),
        pytest.param({"y": "high"}, "column 'y' holds String, not numbers", id="values"),
        pytest.param({"unique_id": None}, "column 'unique_id' has rows without an id", id="no-id"),
        pytest.param({"unique_id": 1.5}, "ids must be texts or integers", id="float-id"),
    ],
)
def test_a_wrong_column_is_named_before_anything_is_sent(
    client: Any, session_id: str, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidArgument, match=says):
        client.observe_frame(long(session_id).assign(**change), "hourly")
    assert not list(client.sessions(session_id))


def test_columns_that_no_model_knows_are_warned_about(knowing: Any, session_id: str) -> None:
    frame = long(session_id, 1).assign(Price=1.0)
    with pytest.warns(UserWarning, match=r"columns \['Price'\] are not sent: model 'demand' has .*'price', 'holiday'"):
        knowing.observe_frame(frame, "demand")
    with pytest.raises(InvalidArgument, match=r"frame: lacks the covariates \['holiday'\]"):
        knowing.observe_frame(long(session_id, 1).assign(price=1.0), "demand", rows="all")
    with pytest.raises(InvalidArgument, match="future: model 'letters' takes no covariates"):
        knowing.step_frame(frame, 1, "letters", future=frame)
    with pytest.raises(InvalidArgument, match="rows: expected 'new' or 'all', got 'some'"):
        knowing.observe_frame(frame, "demand", rows="some")


def test_progress_is_shown_if_asked_for(client: Any, session_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    client.observe_frame(long(session_id), "hourly", progress=True)
    assert "3/3" in capsys.readouterr().err
    client.observe_frame(long(session_id), "hourly")
    assert not capsys.readouterr().err


def test_an_empty_frame_gives_an_empty_frame(client: Any, session_id: str) -> None:
    frame = long(session_id)
    assert client.observe_frame(frame[:0], "hourly").empty
    assert list(client.step_frame(frame[:0], 1, "hourly").columns) == ["unique_id", "step"]
