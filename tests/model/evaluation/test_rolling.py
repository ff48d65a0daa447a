"""Streaming evaluation: a forecast uses only past values and covariates known ahead."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.panels import panel_of

from statecast.model import Forecaster
from statecast.model.config import Category
from statecast.model.contract import Future
from statecast.model.data import Panel, Series
from statecast.model.evaluation import EvaluationError, Protocol
from statecast.model.evaluation.rolling import SERIES_AT_ONCE, cutoffs_of, is_seen, roll, truths_of

PROTOCOL = Protocol(horizon=6, season=5, windows=3, step=9)
Make = Callable[..., Forecaster]


@pytest.fixture(scope="module")
def model(random_model: Make) -> Forecaster:
    return random_model(
        targets=("y",),
        frequency="h",
        calendar=("day", "week"),
        covariates=("price",),
        categories=(Category("region", ("n", "s")),),
        checked_steps=(1, 4, 6),
        adaptation_rate=0.3,
    )


def panel(rows: Iterable[int] = (80, 60, 43), seed: int = 0) -> Panel:
    rng = np.random.default_rng(seed)
    made = panel_of(*(rng.normal(50, 5, (each, 2)) for each in rows), frequency="h", covariates=("price",))
    series = tuple(
        Series(each.unique_id, each.start_ns, each.values, ("sn"[at % 2],)) for at, each in enumerate(made.series)
    )
    return replace(made, series=series, categories=("region",))


def changed(before: Panel, change: Callable[[NDArray[np.float64], int], None], window: int) -> Panel:
    """Apply `change` to every series, given its values and the cut-off of the window."""
    series = []
    for each in before.series:
        values = each.values.copy()
        change(values, int(PROTOCOL.cutoffs(each.rows)[window]))
        series.append(replace(each, values=values))
    return replace(before, series=tuple(series))


def forecasts(model: Forecaster, made: Panel, **options: Any) -> list[NDArray[np.float64]]:
    return list(roll(model, made, cutoffs_of(made, PROTOCOL), PROTOCOL.horizon, **options).quantiles)


@pytest.mark.parametrize("window", [0, 1, 2])
def test_nothing_after_a_cut_off_is_seen_but_the_covariates_that_are_told(model: Forecaster, window: int) -> None:
    def garbage(values: NDArray[np.float64], cutoff: int) -> None:
        values[cutoff:, 0] = np.linspace(-1e6, 1e6, len(values) - cutoff)
        values[cutoff + PROTOCOL.horizon :, 1] = 1e6

    before = panel()
    pairs = zip(forecasts(model, before), forecasts(model, changed(before, garbage, window)), strict=True)
    for first, second in pairs:
        assert np.array_equal(first[: window + 1], second[: window + 1])
        assert window == 2 or not np.array_equal(first[window + 1], second[window + 1])


def test_a_covariate_ahead_changes_the_forecast_of_its_step(model: Forecaster) -> None:
    def dearer(values: NDArray[np.float64], cutoff: int) -> None:
        values[cutoff + 3, 1] += 20

    before = panel()
    for first, second in zip(forecasts(model, before), forecasts(model, changed(before, dearer, 1)), strict=True):
        assert np.array_equal(first[0], second[0])
        differs = (first[1] != second[1]).any(axis=-1)
        assert differs.tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize("rows", [(80, 60, 43), (300, 700), tuple(range(40, 40 + SERIES_AT_ONCE + 6))])
def test_it_is_what_the_service_does(model: Forecaster, rows: tuple[int, ...]) -> None:
    made = panel(rows)
    told: list[tuple[int, int]] = []
    rolled = roll(
        model, made, cutoffs_of(made, PROTOCOL), PROTOCOL.horizon, progress=lambda done, of: told.append((done, of))
    )
    assert told[-1] == (len(rows), len(rows))
    assert (rolled.name, rolled.levels, rolled.windows) == ("tiny 1", model.config.quantile_levels, (0, 1, 2))
    for index in (0, len(rows) - 1):
        series = made.series[index]
        values = torch.from_numpy(series.values).unsqueeze(0)
        times = torch.from_numpy(series.times("h")).unsqueeze(0)
        categories = torch.tensor([[1 if series.categories[0] == "n" else 2]])
        for window, cutoff in enumerate(PROTOCOL.cutoffs(series.rows).tolist()):
            state = model.initial_state(1)
            state = model.advance(state, values[:, :cutoff], times=times[:, :cutoff], categories=categories).state
            ahead = slice(cutoff, cutoff + 6)
            said = model.forecast(model.context(state, categories), 6, Future(times[:, ahead], values[:, ahead, 1:]))
            np.testing.assert_allclose(rolled.quantiles[index][window], said[0, :, :, 0].numpy(), rtol=1e-3, atol=1e-3)


def test_a_short_context_starts_later(model: Forecaster) -> None:
    def other(values: NDArray[np.float64], cutoff: int) -> None:
        values[: cutoff - 20] += 1000

    before = panel((80, 80))
    first, second = (forecasts(model, each, context_steps=20) for each in (before, changed(before, other, 0)))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], forecasts(model, before)[0])
    assert np.array_equal(forecasts(model, before, context_steps=1000)[0], forecasts(model, before)[0])


def test_a_short_context_reaches_back_to_where_a_target_was_seen(model: Forecaster) -> None:
    def ended(values: NDArray[np.float64], cutoff: int) -> None:
        values[cutoff - 40 :, 0] = np.nan

    made = changed(panel((80, 80)), ended, 0)
    short, exact = (forecasts(model, made, context_steps=steps) for steps in (20, 41))
    assert np.isfinite(short[0]).all()
    assert np.array_equal(short[0], exact[0])


def test_several_targets_and_series_keep_their_order(random_model: Make) -> None:
    two = random_model()
    rng = np.random.default_rng(0)
    means, rows = [(0, 50), (100, 150), (200, 250)], [90, 80, 70]
    series = tuple(Series(f"s{at}", None, rng.normal(means[at], 1, (rows[at], 2))) for at in range(3))
    made = replace(panel_of(np.ones(5)), series=series, targets=("a", "b"))
    rolled = roll(two, made, cutoffs_of(made, PROTOCOL), PROTOCOL.horizon)
    assert [truth.name for truth in truths_of(made, cutoffs_of(made, PROTOCOL))] == [
        "s0 a",
        "s0 b",
        "s1 a",
        "s1 b",
        "s2 a",
        "s2 b",
    ]
    centres = [float(np.median(each)) for each in rolled.quantiles]
    assert np.abs(np.array(centres) - [0, 50, 100, 150, 200, 250]).max() < 25


def test_what_does_not_go_together_is_said(model: Forecaster) -> None:
    made = panel()
    for wrong, message in (
        (replace(made, frequency="D"), "frequency: tiny has h, but the data D"),
        (replace(made, frequency=""), "frequency: tiny has h, but the data none"),
        (replace(made, covariates=("cost",)), "covariates: tiny has price, but the data cost"),
        (replace(made, targets=("a", "b")), "targets: tiny has y, but the data a, b"),
        (replace(made, categories=("shop",)), "categories: tiny needs region"),
    ):
        with pytest.raises(EvaluationError, match=message):
            roll(model, wrong, cutoffs_of(wrong, PROTOCOL), PROTOCOL.horizon)
    with pytest.raises(EvaluationError, match="horizon: 7 is beyond the 6 steps"):
        roll(model, made, cutoffs_of(made, PROTOCOL), 7)


def test_a_series_is_seen_if_every_target_has_a_value_before_the_first_cut_off() -> None:
    values = np.full((60, 2), np.nan)
    values[5, 0] = values[10, 1] = values[40:] = 1.0
    cutoff = int(PROTOCOL.cutoffs(60)[0])
    assert is_seen(Series("s", None, values), ("a", "b"), cutoff)
    values[10, 1] = np.nan
    assert not is_seen(Series("s", None, values), ("a", "b"), cutoff)
    assert is_seen(Series("s", None, values), ("a",), cutoff)
