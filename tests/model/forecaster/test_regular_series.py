"""A perfectly regular series raises no alarms, a fault in it does, and noise is not mistaken for regularity."""

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from statecast.model import Forecaster, bundled_models, load_model
from statecast.model.data import Panel
from statecast.model.data.findings import Findings
from statecast.model.data.panel import Series
from statecast.model.evaluation.run import Request, evaluate_model

STEPS = 600
SETTLED = 300
TIME = np.arange(STEPS)
PUMP = ((TIME % 24 >= 8) & (TIME % 24 < 18)).astype(float)
REGULAR = {
    "a pump, on from 8 to 18": PUMP,
    "1, 2, 3": TIME % 3 + 1.0,
    "5, 10": 5.0 + 5.0 * (TIME % 2),
    "a saw of seven": (TIME % 7).astype(float),
    "a sine of a day": np.sin(2 * np.pi * TIME / 24),
    "a large level": 1e6 + PUMP,
    "a small one": 1e-6 * PUMP,
    "a constant": np.full(STEPS, 3.0),
}


@cache
def base() -> Forecaster:
    model = load_model(bundled_models() / "base" / "2")
    assert isinstance(model, Forecaster)
    return model


def pit_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the `pit` of one session, [time]."""
    model = base()
    with torch.inference_mode():
        trace = model.advance(model.initial_state(1), torch.tensor(values).view(1, -1, 1))
    pit: NDArray[np.float64] = trace.pit[0, :, 0].numpy()
    return pit


@pytest.mark.parametrize("name", list(REGULAR))
def test_a_regular_series_raises_no_alarm(name: str) -> None:
    pit = pit_of(REGULAR[name])[SETTLED:]
    assert not ((pit < 0.01) | (pit > 0.99)).any()
    assert ((pit < 0.1) | (pit > 0.9)).mean() < 0.15
    assert (pit == 0.5).mean() > 0.3


@pytest.mark.parametrize(
    ("name", "share"),
    # Forecasts are float32, where 1,000,000.01 rounds to 1,000,000.
    [(name, share) for name in REGULAR for share in (0.01, 0.5) if (name, share) != ("a large level", 0.01)],
)
def test_a_fault_in_it_does(name: str, share: float) -> None:
    values = REGULAR[name].copy()
    values[-1] += share * (np.ptp(values) or 1.0)
    assert pit_of(values)[-1] > 0.99


@pytest.mark.parametrize("noise", [1e-5, 1e-4, 1e-3, 1e-2])
def test_noise_lies_inside_the_80_percent_interval_about_80_percent_of_the_time(noise: float) -> None:
    pit = pit_of(PUMP + noise * np.random.default_rng(0).normal(size=STEPS))[SETTLED:]
    assert 0.65 < ((pit >= 0.1) & (pit <= 0.9)).mean() < 0.95
    assert ((pit < 0.01) | (pit > 0.99)).mean() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REGULAR, "noise"])
def test_evaluation_counts_as_pit_does(name: str) -> None:
    values = REGULAR.get(name, PUMP + 1e-3 * np.random.default_rng(0).normal(size=STEPS))
    panel = Panel((Series("a", None, values[:, None]),), ("y",), (), (), "", Findings())
    windows = STEPS - SETTLED
    report = evaluate_model(base(), panel, Request(horizon=1, windows=windows, step=1)).report
    told = next(band.overall for band in report.rows[0].scores.coverage if band.stated == 0.8)
    pit = pit_of(values)[SETTLED:]
    assert abs(told - ((pit >= 0.1) & (pit <= 0.9)).mean()) < 0.05
