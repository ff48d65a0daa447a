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
    model = load_model(bundled_models() / "base" / "1")
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
    folder = bundled_models() / "base" / "1"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    assert base.config.targets == ("value",)
    assert base.config.frequency == ""
    assert base.config.cell == "lstm"
    assert base.config.horizon >= 48


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
    said = json.loads((bundled_models() / "base" / "1" / "metrics.json").read_text())["validation"]
    seen = validate(base, series=60)
    assert seen["median_error_vs_last_value"] < 0.55 < seen["seasonal_naive_error_vs_last_value"]
    assert said["median_error_vs_last_value"] < 0.6
    assert abs(seen["coverage_80"] - 0.8) < 0.06


@pytest.mark.parametrize(("wild", "widest"), [(200.0, 3), (-999.0, 3), (1e4, 3), (1e6, 5)])
def test_one_wild_value_is_got_over(base: Forecaster, wild: float, widest: float) -> None:
    values = 100 + np.random.default_rng(1).normal(size=(20, 800))
    values[:, 300] = wild
    state = base.advance(base.initial_state(20), torch.from_numpy(values).unsqueeze(2)).state
    forecast = base.forecast(base.context(state), 24)[..., 0].numpy()
    assert np.abs(forecast[:, :, 6] - 100).max() < 3
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
