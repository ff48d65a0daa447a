"""Tiny models with random weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from statecast.model import Forecaster, ModelConfig


def make(**changes: Any) -> Forecaster:
    values: dict[str, Any] = {
        "name": "tiny",
        "version": "1",
        "layers": 2,
        "hidden_size": 8,
        "head_size": 8,
        "targets": ("a", "b"),
        "horizon": 6,
        "window": 12,
        "lags": (3, 5),
        "multiples": 3,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Forecaster(ModelConfig(**{**values, **changes}))
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
    return model.eval()


@pytest.fixture(scope="session")
def random_model() -> Callable[..., Forecaster]:
    torch.set_num_threads(1)
    return make


@pytest.fixture(scope="session")
def models() -> dict[str, Forecaster]:
    """Return one model for each cell."""
    torch.set_num_threads(1)
    return {cell: make(cell=cell) for cell in ("lstm", "gru", "rnn")}
