"""Defaults of a model: horizon, lags, memories and calendar, by the frequency of the data."""

from dataclasses import replace

import numpy as np
import pytest
from support.panels import panel_of, waves

from statecast.model import ConfigError
from statecast.model.data import Series
from statecast.model.errors import DataError
from statecast.model.training.defaults import Wishes, checked_steps, configure


@pytest.mark.parametrize(
    ("frequency", "rows", "lags", "horizon", "calendar"),
    [
        ("h", 24 * 60, (24, 168), 24, ("day", "week")),
        ("h", 24 * 15, (24,), 24, ("day", "weekend")),
        ("h", 24 * 5, (24,), 12, ("day",)),
        ("h", 24 * 3 * 366, (24, 168), 24, ("day", "week", "year")),
        ("30min", 5000, (48, 336), 48, ("day", "week")),
        ("min", 10_000, (1440,), 1000, ("day", "weekend")),
        ("10s", 30_000, (), 24, ("day",)),
        ("D", 400, (7,), 14, ("week",)),
        ("D", 1200, (7,), 14, ("week", "year")),
        ("B", 1200, (5, 261), 10, ("week", "year")),
        ("W", 300, (52,), 30, ("year",)),
        ("MS", 240, (12,), 24, ("year",)),
        ("MS", 60, (12,), 6, ("year",)),
        ("QS", 80, (4,), 8, ("year",)),
        ("YS", 40, (), 4, ()),
    ],
)
def test_by_frequency(
    frequency: str, rows: int, lags: tuple[int, ...], horizon: int, calendar: tuple[str, ...]
) -> None:
    config = configure(panel_of(np.arange(rows) % 7.0, frequency=frequency), "m", "1", Wishes())
    assert (config.lags, config.horizon, config.calendar) == (lags, horizon, calendar)
    assert config.checked_steps[0] == 1
    assert config.checked_steps[-1] == horizon


def test_without_times_the_data_tell() -> None:
    config = configure(panel_of(*waves(600)), "m", "1", Wishes())
    assert (config.lags, config.horizon, config.calendar, config.frequency) == ((12,), 24, (), "")


def test_wishes_come_first() -> None:
    wishes = Wishes(
        horizon=5, lags=(30, 10), cell="gru", layers=1, hidden_size=16, calendar=False, adapt=False,
        quantile_levels=(0.1, 0.5, 0.9),
    )  # fmt: skip
    config = configure(panel_of(*waves(600), frequency="h"), "m", "3", wishes)
    assert (config.horizon, config.lags, config.cell, config.layers) == (5, (10, 30), "gru", 1)
    assert (config.calendar, config.adaptation_rate, config.quantile_levels) == ((), 0.0, (0.1, 0.5, 0.9))
    assert (config.name, config.version, config.hidden_size, config.head_size) == ("m", "3", 16, 16)


@pytest.mark.parametrize("lag", [1, 2, 5, 6, 30, 96, 97, 1440, 3000, 5000, 9000, 30_000])
def test_every_lag_makes_a_configuration(lag: int) -> None:
    config = configure(panel_of(*waves(100)), "m", "1", Wishes(lags=(lag,)))
    assert config.window >= lag


def test_categories_and_covariates_are_those_of_the_panel() -> None:
    panel = panel_of(*(np.ones((50, 3)) for _ in range(3)), covariates=("price", "open"))
    series = tuple(
        Series(each.unique_id, None, each.values, (region, "x"))
        for each, region in zip(panel.series, ("n", "s", "n"), strict=True)
    )
    config = configure(replace(panel, series=series, categories=("region", "kind")), "m", "1", Wishes())
    assert config.covariates == ("price", "open")
    assert [(each.name, each.values) for each in config.categories] == [("region", ("n", "s")), ("kind", ("x",))]


def test_what_is_not_possible_is_said() -> None:
    with pytest.raises(DataError, match="horizon: 40 steps need series of at least 80; the longest has 50"):
        configure(panel_of(np.arange(50.0)), "m", "1", Wishes(horizon=40))
    with pytest.raises(ConfigError, match="name"):
        configure(panel_of(np.arange(50.0)), "../m", "1", Wishes())


@pytest.mark.parametrize(
    ("horizon", "steps"),
    [(1, (1,)), (2, (1, 2)), (8, (1, 4, 8)), (24, (1, 4, 24)), (1000, (1, 4, 16, 64, 256, 1000))],
)
def test_the_steps_whose_intervals_are_checked(horizon: int, steps: tuple[int, ...]) -> None:
    assert checked_steps(horizon) == steps
