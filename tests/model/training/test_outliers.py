"""Values of a broken sensor are distinguished from a lasting change of a series."""

import numpy as np
import pytest
from numpy.typing import NDArray
from support.panels import panel_of, waves

from statecast.model.training.outliers import outliers, without_outliers

Values = NDArray[np.float64]


def wave(rows: int = 800) -> Values:
    return np.asarray(waves(rows, series=1)[0], np.float64)


def grown(begin: int, last: float) -> Values:
    """Return a series near 1 that grows linearly from row `begin` to its last value."""
    level = np.interp(np.arange(3000), [0, begin, 2999], [1.0, 1.0, last])
    return level + 0.02 * np.random.default_rng(0).normal(size=3000)


@pytest.mark.parametrize(
    "values",
    [
        wave(),
        np.append(wave()[:620], 50 * wave()[620:]),  # a lasting change of scale
        wave() + 1e6 * (np.arange(800) >= 500),  # a lasting change of level, in one step
        wave() * 1.01 ** np.arange(800),
        np.append(np.zeros(660), wave()[660:]),  # the series begins late
        grown(1750, 125.0),
        np.full(800, np.nan),
    ],
    ids=["wave", "swing", "level", "exponential", "begun", "straight", "blank"],
)
def test_what_a_series_has_become_is_no_fault(values: Values) -> None:
    assert outliers(values).tolist() == []


@pytest.mark.parametrize("rows", [[2800], [1600, 1601, 2999], list(range(2625, 3000, 2))])
@pytest.mark.parametrize("value", [1e6, -999.0])
def test_what_goes_beyond_anything_before_is(rows: list[int], value: float) -> None:
    values = wave(3000)
    values[rows] = value
    assert outliers(values).tolist() == rows


def test_a_fault_is_told_from_a_new_level_before_or_after() -> None:
    values = wave(3000) + 1e4 * (np.arange(3000) >= 2000)
    values[[1700, 2900]] = 1e7
    assert outliers(values).tolist() == [1700, 2900]


def test_what_came_before_in_the_first_half_is_no_fault() -> None:
    values = wave(3000)
    values[[700, 2800]] = 1e6
    assert outliers(values).tolist() == []


def test_missing_values_do_not_count() -> None:
    values = wave(3000)
    values[100:2000] = np.nan
    values[2500] = 1e6
    assert outliers(values).tolist() == [2500]
    values[:2000] = np.nan  # too few values are left to compare with
    assert outliers(values).tolist() == []


def test_the_panel_has_missing_values_instead() -> None:
    first, second = wave(), wave()
    first[[700, 720]], second[750] = 1e5, -3e6
    panel = panel_of(first, wave(), second)
    cleaned = without_outliers(panel)
    assert [np.flatnonzero(np.isnan(each.values[:, 0])).tolist() for each in cleaned.series] == [[700, 720], [], [750]]
    assert cleaned.findings.lines() == (
        "values far outside the range of all earlier ones, as from a broken sensor; treated as missing: 3 "
        "(y of 's2' is -3e+06 in row 751)",
    )
    assert not np.isnan(panel.series[0].values).any()
    assert not cleaned.findings.count("moved")


def test_covariates_are_left_alone() -> None:
    values = np.column_stack([wave(), np.where(np.arange(800) == 700, 1e9, wave())])
    panel = panel_of(values, covariates=("price",))
    assert without_outliers(panel) is panel
