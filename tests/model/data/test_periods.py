"""Periods are found where they exist, and nowhere else."""

import numpy as np
import pytest
from support.panels import Values

from statecast.model.data.periods import find_periods


def found(*columns: Values) -> tuple[int, ...]:
    return find_periods([column[:, None].astype(np.float64) for column in columns])


def hourly(rows: int, seed: int = 0, noise: float = 0.3) -> Values:
    """Return a daily pattern on working days, with noise."""
    rng = np.random.default_rng(seed)
    hours = np.arange(rows)
    working = (hours // 24 % 7 < 5) * 1.0
    return 10 + working * 4 * np.maximum(0, np.sin(2 * np.pi * hours / 24)) + noise * rng.normal(size=rows)


@pytest.mark.parametrize("seed", range(5))
def test_a_day_and_a_week(seed: int) -> None:
    assert found(hourly(24 * 7 * 12, seed)) == (24, 168)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("period", [7, 12, 24, 50])
def test_one_period_is_found_once(seed: int, period: int) -> None:
    steps = np.arange(2000)
    rng = np.random.default_rng(seed)
    assert found(5 * np.sin(2 * np.pi * steps / period) + rng.normal(size=2000)) == (period,)


def test_a_day_of_two_peaks_is_a_day() -> None:
    hours = np.arange(2000)
    daily = np.array([0, 0, 0, 0, 0, 0, 3, 9, 6, 2, 1, 1, 1, 1, 1, 1, 2, 6, 8, 4, 2, 1, 0, 0], np.float64)
    assert 24 in found(daily[hours % 24] + 0.3 * np.random.default_rng(0).normal(size=2000))


@pytest.mark.parametrize("seed", range(5))
def test_nothing_in_noise_walks_and_trends(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=3000)
    assert found(noise) == ()
    assert found(noise.cumsum()) == ()
    assert found(np.arange(3000) * 0.3 + noise) == ()


@pytest.mark.parametrize("step", [0.1, 1 / 3, 1.0, 1e6])
def test_nothing_in_the_rounding_of_a_trend(step: float) -> None:
    assert found(step * np.arange(3000)) == ()
    assert found(step * np.arange(3000) ** 2) == ()
    assert found(np.full(3000, step)) == ()


def test_series_are_looked_at_together_and_missing_values_borne() -> None:
    columns = [hourly(1500, seed, noise=2.0) for seed in range(6)]
    for column in columns:
        column[np.random.default_rng(1).random(1500) < 0.1] = np.nan
    columns[0][700] = 1e6
    assert 24 in found(*columns)


@pytest.mark.parametrize("rows", [1, 2, 5, 11])
def test_too_short_to_tell(rows: int) -> None:
    assert found(np.arange(rows) % 2.0) == ()
    assert found(np.full(rows, np.nan)) == ()
