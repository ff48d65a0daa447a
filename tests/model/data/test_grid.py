"""Frequencies are inferred despite gaps, and times are located on the grid."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statecast.model import Frequency
from statecast.model.data.grid import infer, locate
from statecast.model.errors import DataError

START_NS = pd.Timestamp("2001-01-01 00:00").value
ALIASES = ["s", "5min", "h", "D", "3D", "B", "W-MON", "2W-MON", "MS", "2MS", "QS-JAN", "YS-JAN", "2YS-JAN"]


@pytest.mark.parametrize("alias", [*ALIASES, "ms", "90s", "ME", "BMS", "BME", "2ME", "QE-MAR", "BQE-DEC", "YE-JUN"])
def test_a_gap_does_not_hide_the_frequency(alias: str) -> None:
    whole = pd.date_range("2001-01-01", periods=40, freq=alias).as_unit("ns").asi8
    gaps = np.delete(whole, [3, 4, 17])
    assert infer(whole) == pd.infer_freq(pd.DatetimeIndex(whole)) or alias == "BQE-DEC"
    steps, fits = locate(gaps, Frequency.parse(infer(gaps)))
    assert fits.all()
    assert np.array_equal(steps - steps[0], np.delete(np.arange(40), [3, 4, 17]))


def test_days_without_weekends_are_business_days_only_where_one_was_crossed() -> None:
    week = pd.date_range("2024-01-01", periods=5).as_unit("ns").asi8
    assert infer(week[[0, 1, 2, 4]]) == "D"
    assert infer(np.concatenate([week[[0, 1, 2, 4]], week + 7 * 86_400 * 10**9])) == "B"


def test_hours_of_business_are_hours() -> None:
    hours = pd.date_range("2024-01-01", periods=24 * 14, freq="h")
    assert infer(hours[(hours.hour >= 9) & (hours.hour < 17)].as_unit("ns").asi8) == "h"


def test_most_times_decide_where_the_grid_begins() -> None:
    times = np.array([1, 60, 120, 180, 245, 300], np.int64) * 10**9
    steps, fits = locate(times, Frequency.parse("min"))
    assert fits.tolist() == [False, True, True, True, False, True]
    assert np.diff(steps[fits]).tolist() == [1, 1, 2]


def test_the_time_of_day_is_part_of_a_calendar_grid() -> None:
    times = pd.DatetimeIndex(["2024-01-01 06:00", "2024-02-01 06:00", "2024-03-01 07:00", "2024-04-01 06:00"])
    assert locate(times.as_unit("ns").asi8, Frequency.parse("MS"))[1].tolist() == [True, True, False, True]


def test_irregular_times_have_no_frequency() -> None:
    times = np.cumsum(np.arange(1, 30, dtype=np.int64)) * 10**9
    with pytest.raises(DataError, match="irregular"):
        infer(times)
    with pytest.raises(DataError, match="single time"):
        infer(times[:1])


@given(st.sampled_from(ALIASES), st.integers(0, 60), st.integers(1, 40), st.integers(0, 86_399))
@settings(max_examples=60)
def test_times_go_as_the_frequency_counts(alias: str, offset: int, rows: int, second: int) -> None:
    frequency = Frequency.parse(alias)
    start_ns = frequency.add(START_NS, offset) + second * 10**9
    times = frequency.times(start_ns, rows)
    assert times.tolist() == [frequency.add(start_ns, step) for step in range(rows)]
    steps, fits = locate(times, frequency)
    assert fits.all()
    assert np.array_equal(steps - steps[0], np.arange(rows))
