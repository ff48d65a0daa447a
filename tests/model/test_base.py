"""The bundled model: its configuration, and a sanity check on real series not used in training."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from statecast.model import Forecaster, bundled_models, load_model
from statecast.model.pretraining.validation import validate

DATA = Path(__file__).parents[3] / "shared" / "data"
WARM_UP, AHEAD = 500, 24


@pytest.fixture(scope="module")
def base() -> Forecaster:
    model = load_model(bundled_models() / "base" / "2")
    assert isinstance(model, Forecaster)
    return model


@dataclass(frozen=True)
class Scores:
    median_error: float
    last_value_error: float
    coverage: float


def score(model: Forecaster, values: NDArray[np.float64]) -> Scores:
    """Score one pass over a series: a forecast of 24 steps at every 24th step after 500 observations."""
    levels = model.config.quantile_levels
    low, middle, high = (levels.index(level) for level in (0.1, 0.5, 0.9))
    state = model.initial_state(1)
    medians, lasts, inside, taken = [], [], [], 0
    for origin in range(WARM_UP, len(values) - AHEAD + 1, AHEAD):
        state = model.advance(state, torch.from_numpy(values[taken:origin]).view(1, -1, 1)).state
        taken = origin
        quantiles = model.forecast(model.context(state), AHEAD)[0, :, :, 0].numpy()
        outcome = values[origin : origin + AHEAD]
        medians.append(np.abs(outcome - quantiles[:, middle]))
        lasts.append(np.abs(outcome - values[origin - 1]))
        inside.append((outcome >= quantiles[:, low]) & (outcome <= quantiles[:, high]))
    return Scores(float(np.mean(medians)), float(np.mean(lasts)), float(np.mean(inside)))


def test_it_is_small_and_takes_any_univariate_series(base: Forecaster) -> None:
    folder = bundled_models() / "base" / "2"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    assert base.config.targets == ("value",)
    assert base.config.frequency == ""
    assert base.config.cell == "lstm"
    assert base.config.horizon == 1000
    assert base.layout.nbytes <= 8000


@pytest.mark.parametrize(
    ("path", "column", "share"),
    [("ett/ETTh1.csv", "OT", 0.95), ("nab/realKnownCause__nyc_taxi.csv", "value", 0.2)],
)
@pytest.mark.slow
def test_sanity_gate_on_real_series(base: Forecaster, path: str, column: str, share: float) -> None:
    if not (DATA / path).exists():
        pytest.skip(f"{path} is not here")
    scores = score(base, pd.read_csv(DATA / path)[column].to_numpy(np.float64, copy=True))
    assert scores.median_error < share * scores.last_value_error
    assert 0.7 <= scores.coverage <= 0.9


@pytest.mark.slow
def test_it_does_on_synthetic_series_what_its_metrics_say(base: Forecaster) -> None:
    said = json.loads((bundled_models() / "base" / "2" / "metrics.json").read_text())["validation"]
    seen = validate(base, series=60)
    for each in (seen, said):
        assert each["median_error_vs_last_value"] < 0.9 * each["seasonal_naive_error_vs_last_value"]
    assert abs(seen["coverage_80"] - 0.8) < 0.06


@pytest.mark.parametrize(("wild", "widest"), [(200.0, 3), (-999.0, 3), (1e4, 3), (1e6, 5)])
def test_one_wild_value_is_got_over(base: Forecaster, wild: float, widest: float) -> None:
    values = 100 + np.random.default_rng(1).normal(size=(20, 800))
    values[:, 300] = wild
    state = base.advance(base.initial_state(20), torch.from_numpy(values).unsqueeze(2)).state
    forecast = base.forecast(base.context(state), 24)[..., 0].numpy()
    assert np.abs(forecast[:, :, 6] - 100).max() < 3.5
    width = (forecast[:, :, 10] - forecast[:, :, 2]).mean()
    assert 0.5 < width / 2.56 < widest


def test_forecasts_are_useful_from_the_first_values_on(base: Forecaster) -> None:
    state = base.initial_state(1)
    first = base.forecast(base.context(base.advance(state, torch.full((1, 1, 1), 20.0).double()).state), 12)
    assert torch.isfinite(first).all()
    assert float((first[0, :, 6] - 20).abs().max()) < 20
    season = 50 + 10 * np.sin(2 * np.pi * np.arange(24 * 8) / 24)
    state = base.advance(base.initial_state(1), torch.from_numpy(season).view(1, -1, 1)).state
    ahead = base.forecast(base.context(state), 24)[0, :, 6, 0].numpy()
    assert np.abs(ahead - season[:24]).max() < 2


def one_pass(base: Forecaster, values: NDArray[np.float64], begin: int, ahead: int) -> NDArray[np.float64]:
    """Return the medians of one step ahead or more, from every `ahead`-th step on, [series, windows, ahead]."""
    state, taken, medians = base.initial_state(len(values)), 0, []
    for origin in range(begin, values.shape[1] - ahead + 1, ahead):
        state = base.advance(state, torch.from_numpy(values[:, taken:origin]).unsqueeze(2)).state
        taken = origin
        medians.append(base.forecast(base.context(state), ahead)[:, :, 6, 0].double().numpy())
    return np.stack(medians, axis=1)


def test_a_week_of_any_step_is_learned_from_the_session_alone(base: Forecaster) -> None:
    """Days of 12 steps with weekends and a drifting level: better than the value a week before."""
    rng, steps, week = np.random.default_rng(0), np.arange(1200), 84
    days = np.array([0.0, 0.2, 0.1, 0.3, 0.2, -1.5, -1.8])[steps // 12 % 7]
    drift = rng.normal(size=(8, len(steps))).cumsum(axis=1) * 0.02
    values = 50 + 3 * np.sin(2 * np.pi * steps / 12) + 2 * days + drift + 0.3 * rng.normal(size=(8, len(steps)))
    medians = one_pass(base, values, 600, 24)
    came = np.stack([values[:, at : at + 24] for at in range(600, 1177, 24)], axis=1)
    before = np.stack([values[:, at - week : at - week + 24] for at in range(600, 1177, 24)], axis=1)
    assert np.abs(medians - came).mean() < 0.8 * np.abs(before - came).mean()


def test_on_a_random_walk_it_is_nearly_as_good_as_the_last_value(base: Forecaster) -> None:
    walks = np.random.default_rng(0).normal(size=(20, 700)).cumsum(axis=1)
    medians = one_pass(base, walks, 500, 1)[:, :, 0]
    last, came = walks[:, 499:-1], walks[:, 500:]
    assert np.abs(medians - came).mean() < 1.02 * np.abs(last - came).mean()


def test_a_forecast_reaches_as_far_as_the_server_allows(base: Forecaster) -> None:
    season = 50 + 10 * np.sin(2 * np.pi * np.arange(24 * 30) / 24)
    state = base.advance(base.initial_state(1), torch.from_numpy(season).view(1, -1, 1)).state
    ahead = base.forecast(base.context(state), 1000)[0, :, :, 0].double().numpy()
    assert (np.diff(ahead, axis=1) >= 0).all()
    truth = 50 + 10 * np.sin(2 * np.pi * np.arange(1000) / 24)
    assert np.abs(ahead[:, 6] - truth).max() < 3
