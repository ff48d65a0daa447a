"""Tiny real models: the forecaster with few units and seeded random weights."""

from pathlib import Path

import torch

from statecast.model import Forecaster, ModelConfig, save_model

HORIZON = 6
LEVELS = (0.1, 0.5, 0.9)
TARGETS = {"tiny": ("value",), "three": ("flow", "pressure", "heat"), "hourly": ("value",)}


def tiny_model(name: str = "tiny", version: str = "1", seed: int = 0) -> Forecaster:
    """A model of one of the names in TARGETS; "hourly" declares a frequency."""
    config = ModelConfig(
        name=name,
        version=version,
        targets=TARGETS[name],
        hidden_size=8,
        head_size=8,
        horizon=HORIZON,
        quantile_levels=LEVELS,
        window=24,
        lags=(4, 12),
        frequency="h" if name == "hourly" else "",
    )
    torch.manual_seed(seed)
    return Forecaster(config).eval()


def write_models(folder: Path) -> Path:
    """A models folder with every tiny model in it."""
    for name in TARGETS:
        save_model(tiny_model(name), folder / name / "1")
    return folder
