"""Panels can be cut at rows and at times."""

import numpy as np
import pandas as pd
import pytest

from statecast.model.data import Findings, Panel, Series
from statecast.model.errors import DataError, FrequencyError


def ns(text: str) -> int:
    return int(pd.Timestamp(text).value)


def column(*values: float) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    return np.array(values, np.float64)[:, None]


def panel(frequency: str = "h", *series: Series) -> Panel:
    return Panel(series, ("y",), (), (), frequency, Findings())


HOURLY = panel(
    "h",
    Series("a", ns("2024-01-01 00:00"), column(1, 2, 3, 4)),
    Series("b", ns("2024-01-01 02:00"), column(np.nan, 6, 7)),
)


def test_rows_are_counted_over_all_series() -> None:
    assert HOURLY.rows == 7
    assert [series.rows for series in HOURLY.series] == [4, 3]


@pytest.mark.parametrize(
    ("frequency", "last"), [("h", "2024-01-01 02:00"), ("MS", "2024-03-01"), ("D", "2024-01-03"), ("B", "2024-01-03")]
)
def test_times_follow_the_frequency(frequency: str, last: str) -> None:
    times = Series("a", ns("2024-01-01"), column(1, 2, 3)).times(frequency)
    assert times.dtype == np.int64
    assert (times[0], times[-1], len(times)) == (ns("2024-01-01"), ns(last), 3)


def test_times_need_a_start_on_the_grid() -> None:
    with pytest.raises(DataError, match="only position"):
        Series("a", None, column(1)).times("h")
    with pytest.raises(FrequencyError):
        Series("a", ns("2024-01-02"), column(1)).times("MS")


@pytest.mark.parametrize(
    ("time", "rows"),
    [
        ("2024-01-01 01:00", [2]),
        ("2024-01-01T03:59", [4, 2]),
        ("2024-01-01 04:30+01:00", [4, 2]),
        ("2025-01-01", [4, 3]),
    ],
)
def test_a_panel_is_cut_after_a_time(time: str, rows: list[int]) -> None:
    assert [series.rows for series in HOURLY.until(time=time).series] == rows
    assert [series.rows for series in HOURLY.until(time=pd.Timestamp(time).to_pydatetime()).series] == rows


def test_a_series_without_a_value_before_the_cut_is_left_out() -> None:
    assert [series.unique_id for series in HOURLY.until(rows=1).series] == ["a"]
    assert [series.rows for series in HOURLY.until(rows=2).series] == [2, 2]
    with pytest.raises(DataError, match="no series"):
        HOURLY.until(time="2023-01-01")


def test_a_calendar_panel_is_cut_after_a_time() -> None:
    monthly = panel("MS", Series("a", ns("2024-01-01"), column(1, 2, 3, 4)))
    assert monthly.until(time="2024-02-29").rows == 2
    assert monthly.until(time="2024-03-01").rows == 3


def test_a_cut_that_cannot_be_is_refused() -> None:
    positions = panel("", Series("a", None, column(1, 2)))
    assert positions.until(rows=1).rows == 1
    with pytest.raises(DataError, match="only position"):
        positions.until(time="2024-01-01")
    with pytest.raises(DataError, match="0 or more"):
        positions.until(rows=-1)
    with pytest.raises(DataError, match="ISO 8601"):
        HOURLY.until(time="now")
