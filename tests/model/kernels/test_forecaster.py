"""Kernels give what torch gives, for any configuration, batch and split."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from statecast.model import Category, Forecaster, Future, ModelConfig, ObservationError, State
from statecast.model.kernels.stepping import fuse

HOUR_NS = 3_600_000_000_000
START_NS = 1_700_000_000_000_000_000 // HOUR_NS * HOUR_NS
CLOSE, CLOSE_DOUBLE = 1e-5, 1e-9
DOUBLES = "window", "last", "count", "lowest", "highest", "means", "periods", "carries", "error_counts", "errors"
"""Parts of the state in which no float32 has a share."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("kernels")]


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    horizon = draw(st.integers(1, 12))
    lags, periods = draw(st.sampled_from([((), 0), ((3,), 0), ((2, 24), 0), ((5, 24, 30), 0), ((), 1), ((), 3)]))
    cycles = st.sampled_from([(), ("day",), ("weekend", "day"), ("week", "year")])
    frequency, calendar = draw(st.sampled_from([("", ()), ("h", ()), ("h", draw(cycles)), ("MS", ("year",))]))
    checked = sorted({1, *draw(st.sets(st.integers(1, horizon), max_size=2))})
    return ModelConfig(
        name="random",
        version="1",
        cell=draw(st.sampled_from(["lstm", "gru", "rnn"])),
        layers=draw(st.integers(1, 3)),
        hidden_size=draw(st.integers(1, 9)),
        head_size=draw(st.integers(1, 9)),
        targets=("a", "b", "c")[: draw(st.integers(1, 3))],
        horizon=horizon,
        quantile_levels=draw(st.sampled_from([(0.5, 0.9), (0.1, 0.5, 0.9), (0.1, 0.25, 0.4, 0.8), (0.01, 0.2, 0.5)])),
        window=max(lags, default=24 * min(periods, 1) + 1) + draw(st.integers(0, 30)),
        lags=lags,
        periods=periods,
        multiples=draw(st.integers(1, 4)),
        frequency=frequency,
        half_lives=draw(st.sampled_from([(3.0,), (2.0, 24.0), (2.0, 12.0, 60.0)])),
        carry_half_lives=draw(st.sampled_from([(1.0,), (1.0, 12.0)])),
        error_half_lives=draw(st.sampled_from([(24.0,), (24.0, 200.0)])),
        covariates=("x", "y")[: draw(st.integers(0, 2))],
        calendar=calendar,
        categories=draw(st.sampled_from([(), (Category("kind", ("u", "v")), Category("place", ("w",)))])),
        checked_steps=draw(st.sampled_from([(), tuple(checked)])),
        adaptation_rate=0.0,
    )


def adapting(config: ModelConfig, rate: float) -> ModelConfig:
    return ModelConfig.from_dict(config.to_dict() | {"adaptation_rate": rate if config.checked_steps else 0.0})


def pair(config: ModelConfig, seed: int) -> tuple[Forecaster, Forecaster]:
    """Return a model in torch, and the same with kernels."""
    first, second = Forecaster(config), Forecaster(config)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in first.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=noise))
    second.load_state_dict(first.state_dict())
    fuse(second.eval())
    return first.eval().requires_grad_(False), second.requires_grad_(False)


def close(left: torch.Tensor, right: torch.Tensor, tolerance: float, what: str) -> None:
    assert left.shape == right.shape, what
    torch.testing.assert_close(
        left.double(), right.double(), rtol=tolerance, atol=tolerance * (1 + _size(right)), equal_nan=True,
        msg=lambda text: f"{what}: {text}",
    )  # fmt: skip


def _size(tensor: torch.Tensor) -> float:
    return float(tensor.double().nan_to_num().abs().max()) if tensor.numel() else 0.0


def same_states(left: State, right: State) -> None:
    for name in left:
        close(left[name], right[name], CLOSE_DOUBLE if name in DOUBLES else CLOSE, name)


class Data:
    """Random observations of some sessions: with gaps, jumps, zeros and values of one sign."""

    def __init__(self, config: ModelConfig, sessions: int, seed: int) -> None:
        self.config, self.sessions, self.rng = config, sessions, np.random.default_rng(seed)
        self.scale = self.rng.choice([1e-3, 1.0, 1e6], sessions)
        self.sign = self.rng.choice([0, 1], sessions)
        self.period = self.rng.integers(2, 9, sessions)
        self.at = 0
        known = [len(each.values) + 1 for each in config.categories]
        self.categories = (
            torch.from_numpy(np.stack([self.rng.integers(0, count, sessions) for count in known], 1)) if known else None
        )

    def values(self, steps: int) -> torch.Tensor:
        rng, shape = self.rng, (self.sessions, steps, len(self.config.targets))
        phase = (self.at + np.arange(steps)) % self.period[:, None] / self.period[:, None]
        values = (rng.normal(size=shape) + 20 * np.sqrt(phase)[:, :, None]) * self.scale[:, None, None]
        values = np.where(self.sign[:, None, None], np.abs(values), values)
        values[rng.random(shape) < 0.1] = np.nan
        values[rng.random(shape) < 0.05] = 0.0
        values[rng.random(shape) < 0.01] *= 1e6
        covariates = rng.normal(size=(*shape[:2], len(self.config.covariates)))
        covariates[rng.random(covariates.shape) < 0.2] = np.nan
        return torch.from_numpy(np.concatenate([values, covariates], axis=2))

    def times(self, model: Forecaster, steps: int) -> torch.Tensor | None:
        """Return the times of the next steps, without passing them."""
        if not self.config.frequency:
            return None
        first = torch.full((self.sessions,), START_NS if self.config.frequency == "h" else 0)
        return torch.stack([model.known.later(first, self.at + step) for step in range(steps)], dim=1)


@settings(max_examples=25, deadline=None)
@given(configs(), st.sampled_from([0.0, 0.2]), st.integers(1, 7), st.lists(st.integers(1, 9), min_size=1, max_size=6),
       st.integers(0, 2**31))  # fmt: skip
def test_a_session_is_the_same_in_torch_and_by_kernels(
    config: ModelConfig, rate: float, sessions: int, splits: list[int], seed: int
) -> None:
    torch_model, fused = pair(adapting(config, rate), seed)
    data = Data(config, sessions, seed)
    left = right = torch_model.initial_state(sessions)
    for steps in splits:
        values, times = data.values(steps), data.times(torch_model, steps)
        lengths = torch.from_numpy(data.rng.integers(0, steps + 1, sessions)) if data.rng.random() < 0.5 else None
        told = {"times": times, "categories": data.categories}
        one, other = (
            model.advance(state, values, lengths, **told) for model, state in ((torch_model, left), (fused, right))
        )
        same_states(one.state, other.state)
        close(one.pit, other.pit, CLOSE, "pit")
        data.at += steps
        _same_forecasts(torch_model, fused, one, other, data, steps)
        # From the same state again, so that rounding does not add up over a discontinuity.
        left = right = one.state


def _same_forecasts(torch_model: Forecaster, fused: Forecaster, one: Any, other: Any, data: Data, steps: int) -> None:
    horizon = int(data.rng.integers(1, data.config.horizon + 1))
    rows = torch.from_numpy(data.rng.integers(0, data.sessions, 3))
    at = torch.stack([torch.tensor(int(data.rng.integers(0, int(one.lengths[row]) + 1))) for row in rows])
    whole = torch.arange(data.sessions)
    for sessions, taken in ((whole, one.lengths), (rows, at)):
        ahead = data.times(torch_model, horizon)
        covariates = torch.from_numpy(data.rng.normal(size=(len(sessions), horizon, len(data.config.covariates))))
        future = Future(None if ahead is None else ahead[sessions], covariates if covariates.shape[2] else None)
        said = [
            model.forecast(trace.context(sessions, taken), horizon, future)
            for model, trace in ((torch_model, one), (fused, other))
        ]
        close(said[1], said[0], CLOSE, "forecast")
        if sessions is rows and int(at[0]):
            opened = [trace.gates(int(rows[0]), int(at[0])) for trace in (one, other)]
            close(opened[1].values, opened[0].values, CLOSE, "gates")


def test_wrong_observations_are_refused_as_in_torch() -> None:
    _, fused = pair(ModelConfig(name="x", version="1", frequency="h", calendar=("day",)), 0)
    state, values = fused.initial_state(2), torch.zeros(2, 1, 1, dtype=torch.float64)
    times = torch.zeros(2, 1, dtype=torch.int64)
    for wrong, message in (
        ((values.float(), None, times), "values: expected float64"),
        ((values[:1], None, times), r"values: expected shape \[2, time, 1\]"),
        ((values + 1e300, None, times), "values: must lie within"),
        ((values, torch.tensor([0, 2]), times), "lengths: expected 0 to 1"),
        ((values, None, None), "times: expected int64"),
        ((values, None, times[:, :0]), "times: expected int64"),
    ):
        given_values, lengths, told = wrong
        with pytest.raises(ObservationError, match=message):
            fused.advance(state, given_values, lengths, times=told)
    trace = fused.advance(state, values, times=times)
    with pytest.raises(ObservationError, match="steps: beyond"):
        trace.context(torch.tensor([0]), torch.tensor([2]))
    with pytest.raises(ObservationError, match="horizon: expected 1 to 24"):
        fused.forecast(trace.context(torch.tensor([0]), torch.tensor([1])), 25, Future(times))
    with pytest.raises(ObservationError, match="future: "):
        fused.forecast(trace.context(torch.tensor([0]), torch.tensor([1])), 2, Future(times[:1]))


def test_a_long_stretch_is_the_same_as_its_steps() -> None:
    torch_model, fused = pair(ModelConfig(name="x", version="1", checked_steps=(1, 4, 24), adaptation_rate=0.1), 1)
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 200, 1)))
    whole, steps = torch_model.advance(torch_model.initial_state(2), values).state, fused.initial_state(2)
    for at in range(200):
        steps = fused.advance(steps, values[:, at : at + 1]).state
    same_states(steps, whole)
