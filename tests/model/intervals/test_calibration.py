"""Adapting intervals keep their stated coverage for any data, each side separately, using the past only."""

from collections.abc import Callable
from math import gcd

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from statecast.model import Forecaster, ModelConfig, State
from statecast.model.intervals.calibration import BLOCK, LARGEST_LATER, LARGEST_LOG_FACTOR, WAITING, Calibrator
from statecast.model.intervals.pit import share_below

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
HORIZON = 8
LATER = 8
Make = Callable[..., Forecaster]


def make(random_model: Make, adaptation_rate: float, **changes: object) -> Forecaster:
    return random_model(
        targets=("y",),
        horizon=HORIZON,
        quantile_levels=LEVELS,
        layers=1,
        lags=(4,),
        checked_steps=(1, 4, LATER),
        adaptation_rate=adaptation_rate,
        **changes,
    )


def rows(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.atleast_2d(values)).unsqueeze(-1)


def coverage(model: Forecaster, values: Tensor, ahead: int, last: int) -> tuple[float, float]:
    """Return the shares of the last outcomes below and above the 80 % band forecast `ahead` steps earlier."""
    sessions, steps = values.shape[:2]
    trace = model.advance(model.initial_state(sessions), values)
    ends = torch.arange(steps - last, steps)
    row = torch.arange(sessions).repeat_interleave(last)
    landing = ends.repeat(sessions)
    quantiles = model.forecast(trace.context(row, landing - ahead + 1), ahead)[:, ahead - 1, :, 0]
    came = values[row, landing, 0]
    return float((came < quantiles[:, 0]).double().mean()), float((came > quantiles[:, -1]).double().mean())


@pytest.fixture(scope="module")
def doubling() -> Tensor:
    """Return twelve streams whose noise doubles half-way."""
    noise = np.random.default_rng(3).normal(size=(12, 3000))
    return rows(50 + noise * np.where(np.arange(3000) < 1500, 1.0, 2.0))


@pytest.mark.parametrize("ahead", [1, LATER])
def test_the_band_holds_after_the_noise_has_doubled(random_model: Make, doubling: Tensor, ahead: int) -> None:
    below, above = coverage(make(random_model, 0.1), doubling, ahead, 1000)
    assert 0.78 <= 1 - below - above <= 0.82
    raw = coverage(make(random_model, 0.0), doubling, ahead, 1000)
    assert not 0.78 <= 1 - sum(raw) <= 0.82


@pytest.mark.parametrize("ahead", [1, LATER])
def test_the_two_sides_adapt_apart(random_model: Make, ahead: int) -> None:
    skewed = rows(50 + np.random.default_rng(4).exponential(1.0, (12, 3000)) ** 1.5)
    below, above = coverage(make(random_model, 0.1), skewed, ahead, 1500)
    assert below == pytest.approx(0.1, abs=0.02)
    assert above == pytest.approx(0.1, abs=0.02)
    raw_below, raw_above = coverage(make(random_model, 0.0), skewed, ahead, 1500)
    assert abs(raw_below - 0.1) > 0.02 or abs(raw_above - 0.1) > 0.02


def test_an_upper_miss_moves_the_upper_quantiles_alone(random_model: Make) -> None:
    model = make(random_model, 0.1)
    calm = rows(np.random.default_rng(5).normal(50, 1, 50 * BLOCK - 1))
    before = model.advance(model.initial_state(1), calm).state
    before = State({**before, "misses": torch.zeros_like(before["misses"])})
    after = model.advance(before, rows(np.array([500.0]))).state
    moved = (after["stretches"] - before["stretches"])[0, 0, 0]
    assert bool((moved[-2:] > 0).all())
    assert bool((moved[:2] < 0).all())
    assert float(moved[2]) == 0
    # The average step is zero: 0.1 down in 9 of 10 cases, 0.9 up in one.
    assert float(moved[-1]) == pytest.approx(0.1 * 0.9, abs=1e-12)
    assert float(moved[0]) == pytest.approx(-0.1 * 0.1, abs=1e-12)


def test_further_ahead_a_miss_moves_all_levels_together(random_model: Make) -> None:
    model = make(random_model, 0.1)
    calm = rows(np.random.default_rng(5).normal(50, 1, 50 * BLOCK))
    before = model.advance(model.initial_state(1), calm).state
    after = model.advance(before, rows(np.full(LATER, 500.0))).state
    moved = (after["stretches"] - before["stretches"])[0, 0, 2]
    assert bool((moved[[0, 1, 3, 4]] > 0).all())
    # The upper quantiles, which the value exceeded, move a little more.
    assert bool((moved[3:] > moved[:2].max()).all())
    assert float(moved[2]) == 0


def test_further_ahead_quantiles_are_stretched_less_far(random_model: Make) -> None:
    model = make(random_model, 0.5)
    growing = rows(np.random.default_rng(12).normal(size=400) * np.logspace(0, 25, 400))
    chunks = model.advance(model.initial_state(1), growing).state["stretches"][0, 0]
    assert float(chunks[0].max()) == LARGEST_LOG_FACTOR
    assert float(chunks[1:].max()) == LARGEST_LATER


def test_switched_off_it_leaves_forecasts_and_state_alone(random_model: Make) -> None:
    model, plain = make(random_model, 0.0), make(random_model, 0.0)
    values = rows(np.random.default_rng(6).normal(50, 1, (3, 300)))
    state = model.advance(model.initial_state(3), values).state
    assert not {"stretches", "waiting"} & set(state)
    adapted = make(random_model, 0.2)
    apart = adapted.advance(adapted.initial_state(3), values).state
    assert apart["stretches"].shape == (3, 1, 3, 5)
    steps = torch.arange(1, HORIZON + 1)
    raw = plain.quantiles(plain.context(state), steps).float()
    assert torch.equal(model.forecast(model.context(state), HORIZON), raw)
    assert torch.equal(adapted.quantiles(adapted.context(apart), steps).float(), raw)
    assert not torch.equal(adapted.forecast(adapted.context(apart), HORIZON), raw)


def test_no_outcome_is_used_before_it_comes(random_model: Make) -> None:
    model = make(random_model, 0.3)
    values = rows(np.random.default_rng(7).normal(50, 1, (2, 120)))
    changed = values.clone()
    changed[:, 90:] = 1e4 * torch.rand(2, 30, 1, dtype=torch.float64)
    first, second = (model.advance(model.initial_state(2), each) for each in (values, changed))
    assert torch.equal(first.pit[:, :90].nan_to_num(), second.pit[:, :90].nan_to_num())
    row = torch.arange(2).repeat_interleave(91)
    step = torch.arange(91).repeat(2)
    said = [model.forecast(each.context(row, step), HORIZON) for each in (first, second)]
    assert torch.equal(said[0].nan_to_num(), said[1].nan_to_num())


def test_a_later_step_adapts_only_once_its_outcome_is_there(random_model: Make) -> None:
    model = make(random_model, 0.3)
    values = rows(np.random.default_rng(8).normal(50, 1, 60))
    state = model.initial_state(1)
    judged = False
    for step in range(1, 61):
        before, state = state, model.advance(state, values[:, step - 1 : step]).state
        # One forecast in five is checked when its outcome arrives; quantiles move after every block.
        judged |= step > LATER and (step - LATER) % 5 == 0
        moved = not torch.equal(state["stretches"][0, 0, 2], before["stretches"][0, 0, 2])
        assert bool(state["misses"][0, 0, 2].any()) == (judged and step % BLOCK > 0), step
        assert moved == (judged and step % BLOCK == 0), step
        judged &= step % BLOCK > 0


@pytest.mark.parametrize("lags", [(), (4,), (5, 12), (24, 168), (2, 3, 5, 7, 11)])
@pytest.mark.parametrize("ahead", [4, 24, 168, 1000])
def test_forecasts_that_are_checked_come_from_every_phase_and_none_is_pushed_out(
    lags: tuple[int, ...], ahead: int
) -> None:
    config = ModelConfig("m", "1", horizon=ahead, window=200, lags=lags, checked_steps=(1, ahead), adaptation_rate=0.1)
    first, stride = Calibrator(config).strides.tolist()
    assert first == 1
    assert stride * WAITING >= ahead
    assert all(gcd(stride, lag) == 1 for lag in lags)


def test_missing_values_move_nothing(random_model: Make) -> None:
    model = make(random_model, 0.3)
    begun = model.advance(model.initial_state(1), rows(np.random.default_rng(9).normal(50, 1, 60)))
    after = model.advance(begun.state, rows(np.full(40, np.nan)))
    assert torch.equal(after.state["stretches"], begun.state["stretches"])
    assert bool(after.pit.isnan().all())


def test_quantiles_stay_in_order(random_model: Make, doubling: Tensor) -> None:
    model = make(random_model, 1.0)
    trace = model.advance(model.initial_state(12), doubling[:, :400])
    row, step = torch.arange(12).repeat_interleave(40), torch.arange(0, 400, 10).repeat(12)
    forecasts = model.forecast(trace.context(row, step), HORIZON).nan_to_num()
    assert bool((forecasts.diff(dim=2) >= 0).all())


def test_pit_is_where_the_value_lay_in_what_was_forecast(random_model: Make) -> None:
    model = make(random_model, 0.3)
    values = rows(np.random.default_rng(10).normal(50, 1, 100))
    trace = model.advance(model.initial_state(1), values)
    assert trace.pit.shape == values.shape
    assert bool(trace.pit[:, 0].isnan().all())
    steps = torch.arange(10, 100)
    quantiles = model.forecast(trace.context(torch.zeros_like(steps), steps), 1)[:, 0, :, 0].double()
    came, pit = values[0, steps, 0], trace.pit[0, steps, 0]
    for at, level in enumerate(LEVELS):
        clear = (came - quantiles[:, at]).abs() > 1e-3
        assert torch.equal((pit > level)[clear], (came > quantiles[:, at])[clear])


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_pit_of_a_stream_that_is_mostly_zero(random_model: Make, rate: float) -> None:
    rng = np.random.default_rng(11)
    counts = rows(np.where(rng.random(400) < 0.7, 0.0, rng.integers(1, 5, 400)))
    model = make(random_model, rate)
    trace = model.advance(model.initial_state(1), counts)
    steps = torch.arange(50, 400)
    issued = model.forecast(trace.context(torch.zeros_like(steps), steps), 1)[:, 0, :, 0].double()
    # Forecasts are not negative, so several quantiles are 0, and the value 0 lies in the middle of them.
    assert bool(((issued == 0).sum(-1) > 1).any())
    expected = share_below(issued, counts[0, steps, 0], torch.tensor(LEVELS, dtype=torch.float64))
    torch.testing.assert_close(trace.pit[0, steps, 0], expected, atol=1e-4, rtol=0)


def test_pit_of_a_stream_of_nothing_but_zeros_is_a_half(random_model: Make) -> None:
    model = make(random_model, 0.3)
    pit = model.advance(model.initial_state(1), rows(np.zeros(60))).pit
    assert bool((pit[:, 1:] == 0.5).all())


def test_pit_of_an_adapted_stream_holds_every_level_but_the_median(random_model: Make, doubling: Tensor) -> None:
    model = make(random_model, 0.05)
    pit = model.advance(model.initial_state(12), doubling).pit[:, 2000:]
    for level in (0.1, 0.25, 0.75, 0.9):
        assert float((pit <= level).double().mean()) == pytest.approx(level, abs=0.02)
