"""Series come out regular despite any order, repetitions and gaps in the file."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statecast.model.data import Panel, read_panel
from statecast.model.errors import DataError


def read(frame: pd.DataFrame, **options: Any) -> Panel:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data.parquet"
        frame.to_parquet(path)
        return read_panel(path, **options)


def frame(times: Any, values: Any = None, unique_id: str = "a") -> pd.DataFrame:
    stamps = pd.DatetimeIndex(times)
    rows = np.arange(len(stamps), dtype=np.float64) if values is None else values
    return pd.DataFrame({"unique_id": unique_id, "ds": stamps, "y": rows})


@given(
    alias=st.sampled_from(["s", "15min", "h", "D", "B", "W-FRI", "MS", "ME", "QE-MAR"]),
    rows=st.lists(st.integers(8, 30), min_size=1, max_size=3),
    again=st.lists(st.integers(0, 7), max_size=6),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60)
def test_order_and_repetition_make_no_difference(alias: str, rows: list[int], again: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    times = [pd.date_range("2023-11-01", periods=count, freq=alias) for count in rows]
    parts = [frame(each, random.normal(size=len(each)), f"s{number}") for number, each in enumerate(times)]
    whole = pd.concat([*parts, *(part.iloc[again] for part in parts)], ignore_index=True)
    panel = read(whole.sample(frac=1, random_state=seed))
    for number, (series, part) in enumerate(
        zip(sorted(panel.series, key=lambda series: series.unique_id), parts, strict=True)
    ):
        assert series.unique_id == f"s{number}"
        assert np.array_equal(series.values[:, 0], part["y"].to_numpy())
        assert np.array_equal(series.times(panel.frequency), times[number].as_unit("ns").asi8)
    assert panel.findings.count("repeated") == len(again) * len(rows)
    assert panel.findings.count("conflicting") == panel.findings.count("inserted") == 0


@given(st.sampled_from(["min", "D", "B", "MS"]), st.sets(st.integers(1, 38), max_size=15))
@settings(max_examples=40)
def test_missing_times_become_missing_rows(alias: str, absent: set[int]) -> None:
    times = pd.date_range("2024-01-01", periods=40, freq=alias)
    panel = read(frame(times).drop(index=sorted(absent)), frequency=alias)
    values = panel.series[0].values[:, 0]
    assert np.array_equal(np.flatnonzero(np.isnan(values)), sorted(absent))
    assert panel.findings.count("inserted") == len(absent)
    assert panel.findings.count("missing") == 0


def test_of_conflicting_rows_the_last_one_counts() -> None:
    hours = pd.date_range("2024-01-01", periods=5, freq="h")
    panel = read(pd.concat([frame(hours), frame(hours[[1]], [7.0])]))
    assert panel.series[0].values[:, 0].tolist() == [0, 7, 2, 3, 4]
    assert "rows replaced by a later row of the same time: 1 (first series 'a', 2024-01-01T01:00:00: 1, then 7)" in (
        panel.findings.lines()
    )
    assert panel.findings.count("unsorted") == 1


def test_series_read_as_one_are_refused() -> None:
    hours = pd.date_range("2024-01-01", periods=9, freq="h")
    two = pd.concat([frame(hours), frame(hours, np.ones(9))]).drop(columns="unique_id")
    with pytest.raises(DataError, match=r"8 of 18 rows .* which column tells the series apart"):
        read(two)


def test_times_off_the_grid_are_refused() -> None:
    times = pd.date_range("2024-01-01", periods=30, freq="5min").to_series()
    times.iloc[[7, 20]] += pd.Timedelta("2min")
    with pytest.raises(DataError, match=r"series 'a': 2024-01-01T00:37:00 .* grid of 5min, as 2 of its 30 .*resample"):
        read(frame(times))
    assert read(frame(times), frequency="min").findings.count("inserted") == 29 * 4


def test_series_of_different_frequencies_are_refused() -> None:
    hourly = frame(pd.date_range("2024-01-01", periods=30, freq="h"))
    for alias in ("30min", "2h", "D"):
        other = frame(pd.date_range("2024-01-01", periods=12, freq=alias), unique_id="b")
        with pytest.raises(DataError, match=f"series 'b' goes by steps of {alias}, but series 'a' by steps of h"):
            read(pd.concat([hourly, other]))
    assert len(read(pd.concat([hourly, frame(["2024-02-01"], unique_id="b")])).series) == 2


def test_a_huge_gap_is_refused_before_it_takes_memory() -> None:
    times = [*pd.date_range("2024-01-01", periods=50, freq="s"), pd.Timestamp("2100-01-01")]
    with pytest.raises(DataError, match=r"too many missing times, series 'a': .* between 2024-01-01T00:00:49 and 2100"):
        read(frame(times))
    assert read(frame(times), max_rows=60).rows == 50


def test_series_that_say_nothing_are_told() -> None:
    hours = pd.date_range("2024-01-01", periods=4, freq="h")
    panel = read(
        pd.concat([frame(hours), frame(hours, np.full(4, 2.0), "flat"), frame(hours, np.full(4, np.nan), "blank")])
    )
    assert [series.unique_id for series in panel.series] == ["a", "flat"]
    assert "series without any value of a target, dropped: 1 (such as 'blank')" in panel.findings.lines()
    assert "column 'y', series with a constant value: 1 (such as 'flat')" in panel.findings.lines()
