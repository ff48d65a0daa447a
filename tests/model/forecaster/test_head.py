"""The head leaves a series to one naive forecaster where the others are of no use, and learns from all of them."""

import numpy as np
import torch

from statecast.model import Forecaster, ModelConfig
from statecast.model.state import Standing

HORIZON = 8
MEDIAN = 1


def untrained() -> Forecaster:
    """Return a model that weighs naive forecasters by their errors alone."""
    torch.manual_seed(0)
    config = ModelConfig(
        name="a", version="1", hidden_size=8, head_size=8, horizon=HORIZON, quantile_levels=(0.1, 0.5, 0.9),
        window=32, lags=(7,), checked_steps=(),
    )  # fmt: skip
    return Forecaster(config)


def steps(count: int) -> torch.Tensor:
    """Return a series that stays where it is, but for a rare jump, [1, count, 1]."""
    rng = np.random.default_rng(0)
    jumps = np.where(rng.random(count) < 0.02, rng.normal(size=count), 0.0)
    return torch.from_numpy(100.0 + jumps.cumsum()).view(1, count, 1)


def test_where_the_last_value_is_best_by_far_the_forecast_is_exactly_that() -> None:
    model, values = untrained().eval(), steps(400)
    with torch.inference_mode():
        trace = model.advance(model.initial_state(1), values)
        forecast = model.forecast(Standing(trace.state), HORIZON)
    assert (forecast[0, :, MEDIAN, 0] == values[0, -1, 0].float()).all()
    assert (forecast[0, :, 0, 0] < forecast[0, :, MEDIAN, 0]).all()


def test_in_training_every_forecaster_has_a_gradient() -> None:
    model, values = untrained().train(), steps(400)
    state = model.advance(model.initial_state(1), values).state
    forecast = model.quantiles(Standing(state), torch.arange(1, HORIZON + 1))
    forecast.sum().backward()  # type: ignore[no-untyped-call]
    of_bias = model.head.emit.bias.grad
    assert of_bias is not None
    assert (of_bias[: model.naive.size + 2] != 0).all()  # the weights, the trust and the shift
