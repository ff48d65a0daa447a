"""Files with local times: days follow the zone, shorter steps are instants, and the advice in errors works."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from statecast.model import TimeZoneError
from statecast.model.data import Layout, Panel, read_panel
from statecast.model.errors import DataError

ZONES = [
    "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "America/St_Johns", "Australia/Sydney",
    "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Chatham", "Africa/Cairo",
]  # fmt: skip
STEPS = {"D": 1100, "W-MON": 160, "MS": 48, "ME": 48, "B": 800, "QS-OCT": 20}
Read = Callable[..., Panel]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function that writes times with the values 0, 1, 2, ... and reads the file."""

    def read(
        times: Any, parquet: bool = False, frequency: str | None = None, until: Any = None, **layout: Any
    ) -> Panel:
        table = pd.DataFrame({"ds": times, "y": np.arange(float(len(times)))})
        path = tmp_path / ("x.parquet" if parquet else "x.csv")
        if parquet:
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False)
        return read_panel(path, Layout(**layout), frequency=frequency, until=until)

    return read


def local(index: pd.DatetimeIndex, zone: str) -> pd.DatetimeIndex:
    return index.tz_localize(zone, ambiguous=np.ones(len(index), bool), nonexistent="shift_forward")


def written(index: "pd.Index[pd.Timestamp]") -> list[str]:
    return [time.isoformat() for time in index]


def same(panel: Panel, expected: Panel) -> bool:
    """Return whether two panels have the same steps of the same series."""
    own, other = panel.series[0], expected.series[0]
    return (
        (panel.frequency, own.start_ns) == (expected.frequency, other.start_ns)
        and np.array_equal(own.values, other.values, equal_nan=True)
        and np.array_equal(own.times(panel.frequency), other.times(expected.frequency))
    )


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("frequency", list(STEPS))
def test_days_of_a_zone_are_those_of_a_file_without_one(read: Read, frequency: str, zone: str) -> None:
    plain = pd.date_range("2015-10-01", periods=STEPS[frequency], freq=frequency)
    expected = read(plain)
    assert expected.frequency == frequency
    times = local(plain, zone)
    found = [
        read(written(times), time_zone=zone),
        read(written(times.tz_convert("UTC")), time_zone=zone),
        read(written(times.tz_convert("UTC")), time_zone=zone, frequency=frequency),
        read(times, parquet=True),
        read(times.tz_convert("Asia/Tokyo"), parquet=True, time_zone=zone),
        read(times.strftime("%d.%m.%Y %H:%M%z"), time_format="%d.%m.%Y %H:%M%z", time_zone=zone),
        read(plain, time_zone=zone),
    ]
    if not (times.hour != 0).any():  # offsets without the name of the zone
        found += [read(written(times)), read(times.strftime("%d.%m.%Y %H:%M%z"), time_format="%d.%m.%Y %H:%M%z")]
    for panel in found:
        assert same(panel, expected)


def test_offsets_that_change_with_the_season_are_told(read: Read) -> None:
    days = local(pd.date_range("2024-01-01", periods=200), "Europe/Berlin")
    lines = read(written(days)).findings.lines()
    assert lines == ("times with a time zone, read as local time: 200 (from +01:00 to +02:00 with the season)",)
    assert "in Europe/Berlin" in read(written(days), time_zone="Europe/Berlin").findings.lines()[0]
    assert read(pd.date_range("2024-01-01", periods=200)).findings.lines() == ()


def test_holes_in_local_days_are_missing_steps(read: Read) -> None:
    days = local(pd.date_range("2024-03-25", periods=20), "Europe/Berlin").delete([3, 7, 8])
    panel = read(written(days))
    assert panel.series[0].rows == 20
    assert np.flatnonzero(np.isnan(panel.series[0].values[:, 0])).tolist() == [3, 7, 8]


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_hours_are_instants_however_they_are_written(read: Read, zone: str) -> None:
    hours = pd.date_range("2016-01-01", periods=24 * 400, freq="h", tz="UTC")
    expected = read(hours.tz_localize(None))
    own = hours.tz_convert(zone)
    assert same(read(written(own)), expected)
    assert same(read(own, parquet=True), expected)
    if zone != "Australia/Lord_Howe":  # it repeats half an hour, so its hours are not ambiguous
        assert same(read(own.tz_localize(None), time_zone=zone), expected)
    assert read(written(own)).findings.count("converted") == (own.tz_localize(None) != hours.tz_localize(None)).sum()


def advised_zone(error: DataError) -> str:
    return str(re.findall(r"--time-zone (\S+)", str(error))[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frequency", "zone"),
    [("D", zone) for zone in ZONES if zone not in ("Asia/Kolkata", "Africa/Cairo")]
    + [(frequency, "America/Havana") for frequency in ("W-MON", "MS", "B")],
)
def test_local_midnights_in_utc_need_a_zone_which_the_error_names(read: Read, frequency: str, zone: str) -> None:
    plain = pd.date_range("2015-10-01", periods=STEPS[frequency], freq=frequency)
    times = written(local(plain, zone).tz_convert("UTC"))
    for named in (None, frequency):
        with pytest.raises(DataError, match="they are midnights in") as caught:
            read(times, frequency=named)
        assert same(read(times, time_zone=advised_zone(caught.value)), read(plain))


def test_times_that_the_clocks_skip_are_in_standard_time_as_the_error_says(read: Read) -> None:
    hours = pd.date_range("2024-03-01", periods=24 * 60, freq="h")
    with pytest.raises(DataError, match="row 723: the clocks of Europe/Berlin skip 2024-03-31T02:00:00") as caught:
        read(hours, time_zone="Europe/Berlin")
    assert advised_zone(caught.value) == "+01:00"
    panel = read(hours, time_zone="+01:00")
    assert panel.series[0].start_ns == pd.Timestamp("2024-02-29 23:00").value
    assert panel.rows == len(hours)


@pytest.mark.parametrize("frequency", [None, "MS", "ME"])
@pytest.mark.parametrize(("months", "alias"), [(1, "MS"), (3, "QS"), (12, "YS"), (2, "2MS")])
def test_values_dated_in_mid_period_are_taken_once_resampled_as_advised(
    read: Read, months: int, alias: str, frequency: str | None
) -> None:
    if frequency and months != 1:
        return
    times = (pd.date_range("2020-01-01", periods=20 * months, freq="MS") + pd.Timedelta(days=14))[::months]
    with pytest.raises(DataError, match=r"resample\('") as caught:
        read(times, frequency=frequency)
    advised = re.findall(r"resample\('(\S+)'\)\.mean\(\)", str(caught.value))[0]
    assert advised == (frequency or alias)
    resampled = pd.Series(np.arange(20.0), times).resample(advised).mean()
    panel = read(resampled.index)
    assert panel.rows == 20
    assert panel.frequency.startswith(advised)


@pytest.mark.parametrize("frequency", [None, "D"])
def test_times_of_day_that_vary_are_taken_once_resampled_as_advised(read: Read, frequency: str | None) -> None:
    times = pd.date_range("2020-01-01 12:03", periods=30) + pd.to_timedelta(np.arange(30) % 7, "min")
    with pytest.raises(DataError, match="does not lie on the grid") as caught:
        read(times, frequency=frequency)
    advised = re.findall(r"resample\('(\S+)'\)\.mean\(\)", str(caught.value))[0]
    assert advised == "D"
    assert read(pd.Series(np.arange(30.0), times).resample(advised).mean().index).rows == 30


@pytest.mark.parametrize(
    ("until", "rows"),
    [
        ("2024-03-31", 31),
        ("2024-03-31T00:00+01:00", 31),
        ("2024-03-30T23:00Z", 30),
        (pd.Timestamp("2024-03-31", tz="Europe/Berlin").to_pydatetime(), 31),
    ],
)
def test_a_file_of_local_days_is_cut_at_a_local_time(read: Read, until: Any, rows: int) -> None:
    days = local(pd.date_range("2024-03-01", periods=60), "Europe/Berlin")
    assert read(written(days), until=until).rows == rows
    assert read(written(days)).until(time=until).rows == rows
    named = read(written(days), time_zone="Europe/Berlin")
    exact = 31 if until == "2024-03-30T23:00Z" else rows  # midnight in Berlin
    assert named.until(time=until).rows == read(written(days), time_zone="Europe/Berlin", until=until).rows == exact


def test_a_file_of_local_hours_is_cut_at_a_local_time(read: Read) -> None:
    hours = pd.date_range("2024-03-01", periods=48, freq="h", tz="Europe/Berlin")
    for panel in (
        read(written(hours), time_zone="Europe/Berlin"),
        read(hours.tz_localize(None), time_zone="Europe/Berlin"),
    ):
        assert panel.until(time="2024-03-01T05:00").rows == 6
        assert panel.until(time="2024-03-01T04:00Z").rows == 6
    assert read(written(hours), until="2024-03-01T04:00").rows == 6  # UTC, because no zone is named


def test_what_is_cut_off_does_not_decide_how_long_steps_are(read: Read) -> None:
    days = pd.date_range("2024-03-01", periods=20, tz="Europe/Berlin")
    hours = pd.date_range("2024-04-01", periods=200, freq="h", tz="Europe/Berlin")
    panel = read(written(days.append(hours)), until="2024-03-25")
    assert (panel.frequency, panel.series[0].start_ns) == ("D", pd.Timestamp("2024-03-01").value)


def test_two_rows_of_an_hour_that_is_there_twice_are_told_apart_in_each_series(tmp_path: Path) -> None:
    hours = pd.date_range("2024-10-27", periods=6, freq="h", tz="Europe/Berlin").tz_localize(None)
    table = pd.concat([pd.DataFrame({"unique_id": name, "ds": hours, "y": np.arange(6.0)}) for name in "ab"])
    table.to_csv(tmp_path / "x.csv", index=False)
    panel = read_panel(tmp_path / "x.csv", Layout(time_zone="Europe/Berlin"))
    for series in panel.series:
        assert series.values[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
        assert series.start_ns == pd.Timestamp("2024-10-26T22:00").value


def test_an_unknown_zone_is_refused(read: Read) -> None:
    with pytest.raises(TimeZoneError, match="did you mean 'Europe/Berlin'"):
        read(pd.date_range("2024-03-01", periods=5), time_zone="Berlin")
    with pytest.raises(DataError, match="time_zone: there is no column of times"):
        Layout(time=None, time_zone="Europe/Berlin")


def test_offsets_that_are_not_those_of_the_place_are_seen_through(read: Read) -> None:
    """Midnights in Berlin, all written with its winter offset, belong to Berlin even where they are at 23:00."""
    days = local(pd.date_range("2024-01-01", periods=366), "Europe/Berlin")
    times = written(days.tz_convert("Etc/GMT-1"))
    with pytest.raises(DataError, match="they are midnights in Europe/Berlin") as caught:
        read(times)
    assert same(read(times, time_zone=advised_zone(caught.value)), read(days.tz_localize(None)))


@pytest.mark.parametrize("parquet", [False, True])
def test_times_without_an_offset_that_look_like_utc_are_taken_once_written_as_advised(
    read: Read, parquet: bool
) -> None:
    days = local(pd.date_range("2024-01-01", periods=366), "Europe/Berlin")
    times = days.tz_convert("UTC").tz_localize(None)
    for zone in ("", "Europe/Berlin"):
        with pytest.raises(DataError, match="write them with their offset, as 2023-12-31T23:00:00Z") as caught:
            read(times, parquet=parquet, time_zone=zone)
    again = [f"{time.isoformat()}Z" for time in times]
    assert same(read(again, time_zone=advised_zone(caught.value)), read(days.tz_localize(None)))


def test_midnights_of_elsewhere_are_told_where_no_clock_changes(read: Read) -> None:
    """The data cannot show that 15:00 UTC is midnight in Tokyo, but the user may know."""
    days = local(pd.date_range("2020-01-01", periods=366), "Asia/Tokyo")
    times = written(days.tz_convert("UTC"))
    (line,) = read(times).findings.lines()
    assert "do not begin at midnight" in line
    assert "--time-zone" in line
    assert "(at 15:00)" in line
    assert same(read(times, time_zone="Asia/Tokyo"), read(days.tz_localize(None)))
    months = local(pd.date_range("2020-01-01", periods=36, freq="MS"), "Asia/Tokyo")
    with pytest.raises(DataError, match="midnights in") as caught:
        read(written(months.tz_convert("UTC")), frequency="MS")
    assert advised_zone(caught.value) == "+09:00"
    assert same(read(written(months.tz_convert("UTC")), time_zone="+09:00"), read(months.tz_localize(None)))


def test_a_repeated_hour_is_told_apart_in_a_file_that_begins_with_the_newest_row(tmp_path: Path) -> None:
    hours = pd.date_range("2024-10-26", periods=48, freq="h", tz="Europe/Berlin").tz_localize(None)
    table = pd.DataFrame({"ds": hours, "y": np.arange(48.0)})
    for name, rows in (("oldest", table), ("newest", table[::-1])):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
        panel = read_panel(tmp_path / f"{name}.csv", Layout(time_zone="Europe/Berlin"))
        assert panel.series[0].values[:, 0].tolist() == list(range(48))
        assert panel.findings.count("repeated_hour") == 1


def test_a_later_correction_is_not_taken_for_a_repeated_hour(tmp_path: Path) -> None:
    hours = pd.date_range("2024-10-27", periods=6, freq="h")
    table = pd.DataFrame({"ds": [*hours, hours[2]], "y": [0.0, 1, 2, 3, 4, 5, 1002]})
    table.to_csv(tmp_path / "x.csv", index=False)
    panel = read_panel(tmp_path / "x.csv", Layout(time_zone="Europe/Berlin"))
    assert panel.series[0].values[:4, 0].tolist()[2] == 1002
    assert panel.findings.count("conflicting") == 1


def test_names_of_zones_in_texts_are_refused(read: Read) -> None:
    with pytest.raises(DataError, match="%Z names a zone ambiguously"):
        read(["01.10.2024 00:00 CEST", "01.11.2024 00:00 CET"], time_format="%d.%m.%Y %H:%M %Z")


def test_irregular_times_are_taken_once_resampled_or_with_a_frequency_as_advised(read: Read) -> None:
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.cumsum(np.arange(1, 40) * 37 % 101 + 20), "min")
    with pytest.raises(DataError, match="irregular") as caught:
        read(times)
    advised = re.findall(r"resample\('(\S+)'\)\.mean\(\)", str(caught.value))[0]
    resampled = pd.Series(np.arange(39.0), times).resample(advised).mean()
    assert read(resampled.index).frequency == advised == "h"
    assert "or name a frequency" in str(caught.value)
    assert (
        read(times, frequency="min").series[0].values[~np.isnan(read(times, frequency="min").series[0].values)].size
        == 39
    )


def test_a_single_time_is_taken_with_a_frequency_as_advised(read: Read) -> None:
    with pytest.raises(DataError, match="single time; name it"):
        read(["2024-01-01"])
    assert read(["2024-01-01"], frequency="D").rows == 1


def test_a_wrong_year_is_taken_once_mended_as_advised(read: Read) -> None:
    times = list(pd.date_range("2024-01-01", periods=40, freq="min").astype(str))
    with pytest.raises(DataError, match="is a time wrong, or the frequency"):
        read([*times[:39], "2094-01-01 00:39:00"])
    assert read(times).rows == 40


def test_several_series_in_one_are_told_apart_as_advised(tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=20)
    table = pd.concat(
        [pd.DataFrame({"shop": name, "ds": days, "y": np.arange(20.0) + at}) for at, name in enumerate("ab")]
    )
    table.to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(DataError, match="which column tells the series apart"):
        read_panel(tmp_path / "x.csv")
    assert len(read_panel(tmp_path / "x.csv", Layout(unique_id="shop")).series) == 2
    table.rename(columns={"ds": "when"}).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(DataError, match="say which one holds the times, or that none does"):
        read_panel(tmp_path / "x.csv", Layout(unique_id="shop"))
    assert read_panel(tmp_path / "x.csv", Layout(unique_id="shop", time="when")).frequency == "D"
    assert read_panel(tmp_path / "x.csv", Layout(unique_id="shop", time=None)).frequency == ""


def test_series_of_two_frequencies_are_taken_as_advised(tmp_path: Path) -> None:
    parts = {
        "a": pd.date_range("2024-01-01", periods=40, freq="h"),
        "b": pd.date_range("2024-01-01", periods=20, freq="2h"),
    }
    tables = {
        name: pd.DataFrame({"unique_id": name, "ds": times, "y": 1.0 * np.arange(len(times))})
        for name, times in parts.items()
    }
    pd.concat(tables.values()).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(DataError, match="put them into two files, or name a frequency that suits both"):
        read_panel(tmp_path / "x.csv")
    assert read_panel(tmp_path / "x.csv", frequency="h").rows == 79
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        assert read_panel(tmp_path / f"{name}.csv").rows == len(table)
