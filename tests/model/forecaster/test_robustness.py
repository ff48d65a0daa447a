"""For any input, states and forecasts stay finite and quantiles never cross."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from statecast.model import Forecaster, State

CELLS = ("lstm", "gru", "rnn")
Models = dict[str, Forecaster]
EXTREMES = st.one_of(
    st.floats(-1e30, 1e30),
    st.sampled_from([0.0, 1e30, -1e30, 1e-30, -1e-30, 5e-324, 1.0, 1e9, float("nan")]),
)


def assert_sound(model: Forecaster, state: State) -> None:
    for name, part in state.items():
        if name not in ("window", "last"):
            assert bool(part.isfinite().all()), name
    forecast = model.forecast(model.context(state), model.config.horizon)
    seen = (state["count"] > 0)[:, None, None, :].expand_as(forecast)
    assert bool(forecast[seen].isfinite().all())
    assert bool(forecast[~seen].isnan().all())
    ordered = forecast.nan_to_num()
    assert bool((ordered.diff(dim=2) >= 0).all())


@settings(max_examples=150)
@given(
    st.sampled_from(CELLS),
    arrays(np.float64, st.tuples(st.just(2), st.integers(0, 40), st.just(2)), elements=EXTREMES),
)
def test_extreme_values_stay_finite(models: Models, cell: str, values: np.ndarray) -> None:
    model = models[cell]
    state = model.advance(model.initial_state(2), torch.from_numpy(values)).state
    assert_sound(model, state)


HARD = {
    "constant": torch.full((300,), 5.0),
    "zeros": torch.zeros(300),
    "missing": torch.full((300,), torch.nan),
    "jump up": torch.cat([torch.full((100,), 1e-30), torch.full((200,), 1e30)]),
    "jump down": torch.cat([torch.full((100,), -1e30), torch.full((200,), 1e-30)]),
    "alternating": torch.tensor([1e30, -1e30]).repeat(150),
    "one value": torch.cat([torch.full((200,), torch.nan), torch.tensor([3.0])]),
    "exponential growth": torch.logspace(-30, 30, 300, dtype=torch.float64),
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("cell", CELLS)
def test_hard_series_stay_finite(models: Models, cell: str, kind: str) -> None:
    model = models[cell]
    values = HARD[kind].double().clamp(-1e30, 1e30).view(1, -1, 1).expand(-1, -1, 2)
    assert_sound(model, model.advance(model.initial_state(1), values).state)


def test_nothing_seen_gives_nan_and_nothing_else(models: Models) -> None:
    model = models["lstm"]
    values = torch.tensor([[[1.0, torch.nan]]], dtype=torch.float64)
    forecast = model.forecast(model.context(model.advance(model.initial_state(1), values).state), 2)
    assert bool(forecast[..., 0].isfinite().all())
    assert bool(forecast[..., 1].isnan().all())


def test_a_missing_value_counts_as_a_step_and_keeps_the_level(models: Models) -> None:
    model = models["lstm"]
    values = torch.full((1, 50, 2), 20.0, dtype=torch.float64)
    values[:, 25:45] = torch.nan
    state = model.advance(model.initial_state(1), values).state
    assert int(state["step"]) == 50
    assert state["count"].tolist() == [[30.0, 30.0]]
    forecast = model.forecast(model.context(state), 6)
    torch.testing.assert_close(forecast, torch.full_like(forecast, 20.0), rtol=1e-3, atol=0)


def noise() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(1, 400, 2)))


@pytest.mark.parametrize("scale", [1e-6, 1e4, 1e12])
def test_forecasts_follow_the_units_of_the_data(models: Models, scale: float) -> None:
    model = models["lstm"]

    def forecast(values: Tensor) -> Tensor:
        state = model.advance(model.initial_state(1), values).state
        return model.quantiles(model.context(state), torch.arange(1, 7))

    torch.testing.assert_close(forecast(noise()), forecast(scale * noise()) / scale, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("level", [1e3, 1e6])
def test_far_from_zero_the_level_makes_no_difference(models: Models, level: float) -> None:
    model = models["lstm"]

    def forecast(level: float) -> Tensor:
        state = model.advance(model.initial_state(1), level + noise()).state
        return model.quantiles(model.context(state), torch.arange(1, 7)) - level

    torch.testing.assert_close(forecast(100.0), forecast(level), rtol=1e-2, atol=1e-2)


def test_small_noise_on_a_large_level_is_not_lost(models: Models) -> None:
    """Forecasts are float32, whose resolution at a million is a sixteenth."""
    model, level = models["lstm"], 1e6
    state = model.advance(model.initial_state(1), level + noise()).state
    quantiles = model.quantiles(model.context(state), torch.arange(1, 7)) - level
    widths = quantiles[:, :, -1] - quantiles[:, :, 0]
    assert bool((quantiles.abs() < 10).all())
    assert bool(((widths > 0.1) & (widths < 20)).all())


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("cell", CELLS)
def test_a_series_is_forecast_on_the_side_of_zero_on_which_it_was(models: Models, cell: str, side: float) -> None:
    model = models[cell]
    spikes = torch.from_numpy(np.random.default_rng(1).exponential(1.0, (1, 200, 2)) ** 4)
    state = model.advance(model.initial_state(1), side * spikes).state
    assert bool((side * model.forecast(model.context(state), 6) >= 0).all())
    crossed = model.advance(state, torch.full((1, 1, 2), -1e3 * side, dtype=torch.float64)).state
    assert bool((side * model.forecast(model.context(crossed), 6) < 0).any())
