"""The bundled model: what it is, and a sanity gate on real series that it has never seen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from statecast.model import Forecaster, bundled_models, load_model

DATA = Path(__file__).parents[3] / "shared" / "data"
WARM_UP, AHEAD = 500, 24


@pytest.fixture(scope="module")
def base() -> Forecaster:
    return load_model(bundled_models() / "base" / "1")


@dataclass(frozen=True)
class Scores:
    median_error: float
    last_value_error: float
    coverage: float


def score(model: Forecaster, values: NDArray[np.float64]) -> Scores:
    """One pass over a series; a forecast 24 steps ahead at every 24th step after 500 observations."""
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


@pytest.mark.parametrize(("path", "column"), [("ett/ETTh1.csv", "OT"), ("nab/realKnownCause__nyc_taxi.csv", "value")])
def test_sanity_gate_on_real_series(base: Forecaster, path: str, column: str) -> None:
    if not (DATA / path).exists():
        pytest.skip(f"{path} is not here")
    scores = score(base, pd.read_csv(DATA / path)[column].to_numpy(np.float64, copy=True))
    assert scores.median_error < scores.last_value_error
    assert 0.6 <= scores.coverage <= 0.95


def test_forecasts_are_useful_from_the_first_values_on(base: Forecaster) -> None:
    state = base.initial_state(1)
    first = base.forecast(base.context(base.advance(state, torch.full((1, 1, 1), 20.0).double()).state), 12)
    assert torch.isfinite(first).all()
    assert float((first[0, :, 6] - 20).abs().max()) < 20
    season = 50 + 10 * np.sin(2 * np.pi * np.arange(24 * 8) / 24)
    state = base.advance(base.initial_state(1), torch.from_numpy(season).view(1, -1, 1)).state
    ahead = base.forecast(base.context(state), 24)[0, :, 6, 0].numpy()
    assert np.abs(ahead - season[:24]).max() < 2
