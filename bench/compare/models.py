"""The models that are served; their weights are random, which does not change the cost of a forecast."""

from pathlib import Path

import numpy as np
import torch

from statecast.model import Forecaster, ModelConfig, save_model
from statecast.model.data import Findings, Panel, Series
from statecast.model.training.defaults import Wishes, configure

from .names import PLAIN, USUAL
from .sizes import HORIZON

_YEARS_OF_HOURS = 4 * 8766
_LEVELS = tuple(tenth / 10 for tenth in range(1, 10))


def plain_config(hidden_size: int = 128) -> ModelConfig:
    """Return the configuration of the peers' LSTM: 1 input, 2 hidden layers, as little else as possible."""
    return ModelConfig(
        name=PLAIN,
        version="1",
        layers=2,
        hidden_size=hidden_size,
        head_size=32,
        horizon=HORIZON,
        quantile_levels=_LEVELS,
        window=1,
        lags=(),
        multiples=1,
        half_lives=(24.0,),
        carry_half_lives=(1.0,),
        error_half_lives=(24.0,),
        checked_steps=(),
    )


def usual_config() -> ModelConfig:
    """Return the default of `statecast train` for hourly data: daily and weekly lags, calendar, checked intervals."""
    hours = np.zeros((_YEARS_OF_HOURS, 1))
    panel = Panel((Series("hourly", 0, hours),), ("value",), (), (), "h", Findings())
    return configure(panel, USUAL, "1", Wishes(horizon=HORIZON))


def write_models(folder: Path, *configs: ModelConfig) -> Path:
    """Write a models folder with one model for each configuration, and return it."""
    torch.manual_seed(0)
    for config in configs:
        save_model(Forecaster(config), folder / config.name / config.version)
    return folder
