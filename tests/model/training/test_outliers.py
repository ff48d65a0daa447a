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


def random(kind: str, seed: int) -> Values:
    """Draw demand as shops have it."""
    rng = np.random.default_rng(seed)
    if kind == "heavy":
        return np.exp(1.5 * rng.normal(size=1000))
    demand = rng.poisson(0.3, 700).astype(float)
    demand[rng.choice(700, 8, replace=False)] = rng.poisson(25, 8)  # promotions
    return demand


@pytest.mark.parametrize("kind", ["heavy", "promotions"])
def test_rare_events_are_no_fault(kind: str) -> None:
    assert not any(len(outliers(random(kind, seed))) for seed in range(50))


@pytest.mark.parametrize("begin", [0.55, 0.85, 0.95])
def test_a_new_level_is_no_fault_however_late(begin: float) -> None:
    values = 100 + 10 * (wave(2000) - 10)
    values[int(begin * 2000) :] += 200
    assert outliers(values).tolist() == []


@pytest.mark.parametrize("rows", [[2800], [1600, 1601, 2999], list(range(2625, 3000, 2)), [700, 2800]])
@pytest.mark.parametrize("value", [1e6, -9999.0])
def test_what_goes_far_beyond_anything_usual_is(rows: list[int], value: float) -> None:
    values = wave(3000)
    values[rows] = value
    assert outliers(values).tolist() == rows


@pytest.mark.parametrize("count", [40, 80, 150])
def test_scattered_error_codes_are_no_new_level(count: int) -> None:
    values = wave(4000)
    rows = np.sort(np.random.default_rng(count).choice(np.arange(2000, 4000), count, replace=False))
    values[rows] = -9999
    assert outliers(values).tolist() == rows.tolist()


def test_a_fault_is_told_from_a_new_level_before_or_after() -> None:
    values = wave(3000) + 1e4 * (np.arange(3000) >= 2000)
    values[[1700, 2900]] = 1e7
    assert outliers(values).tolist() == [1700, 2900]


def test_missing_values_do_not_count() -> None:
    values = wave(3000)
    values[100:2000] = np.nan
    values[2500] = 1e6
    assert outliers(values).tolist() == [2500]
    values[:2000] = np.nan  # nothing tells what is usual
    assert outliers(values).tolist() == []


def test_the_panel_has_missing_values_instead() -> None:
    first, second = wave(), wave()
    first[[700, 720]], second[750] = 1e5, -3e6
    panel = panel_of(first, wave(), second, frequency="h")
    cleaned = without_outliers(panel)
    assert [np.flatnonzero(np.isnan(each.values[:, 0])).tolist() for each in cleaned.series] == [[700, 720], [], [750]]
    assert cleaned.findings.lines() == (
        "column 'y', values 30 times as far out as any before, as from a broken sensor; missing for validation: 3 "
        "('s0', 2024-01-30T04:00:00: 100000)",
    )
    assert not np.isnan(panel.series[0].values).any()
    assert "'s0', row 701: 100000" in without_outliers(panel_of(first)).findings.lines()[0]


def test_covariates_are_left_alone() -> None:
    values = np.column_stack([wave(), np.where(np.arange(800) == 700, 1e9, wave())])
    panel = panel_of(values, covariates=("price",))
    assert without_outliers(panel) is panel
