"""Pictures are drawn, of the right series, for any data."""

from pathlib import Path

import numpy as np
import pytest

from statecast.model.evaluation import (
    EvaluationError,
    Forecasts,
    Outcomes,
    Protocol,
    Report,
    Truth,
    draw_fans,
    draw_reliability,
    draw_steps,
    seasonal_naive,
)
from statecast.model.evaluation.pictures import notable_series

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
PROTOCOL = Protocol(horizon=6, season=4, windows=3)


def made(errors: list[float], scale: float = 1) -> tuple[Outcomes, list[Forecasts], Report]:
    """Return the results of a model with a given error in each series; the last window has no outcomes."""
    values = scale * np.random.default_rng(6).normal(size=(len(errors), 50))
    values[:, 44:] = np.nan
    truths = [Truth(f"$series_{index}$", "y", each, PROTOCOL.cutoffs(50)) for index, each in enumerate(values)]
    outcomes = Outcomes.of(truths, PROTOCOL)
    shape = (*outcomes.values.shape, len(LEVELS))
    wrong = np.nan_to_num(outcomes.values)[..., None] + np.reshape(errors, (-1, 1, 1, 1))
    model = Forecasts("model", LEVELS, tuple(np.broadcast_to(wrong, shape).copy()), (0, 1, 2))
    forecasts = [model, seasonal_naive(truths, PROTOCOL, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))]
    return outcomes, forecasts, Report.of(outcomes, forecasts)


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        ([9, 1, 5, 30, 2], {"best": 1, "median": 2, "worst": 3}),
        ([9, 1], {"best": 1, "worst": 0}),
        ([3], {"best": 0}),
    ],
)
def test_best_median_and_worst(errors: list[float], chosen: dict[str, int]) -> None:
    assert notable_series(made(errors)[2].rows[0].scores) == chosen


def test_pictures_are_drawn(tmp_path: Path) -> None:
    outcomes, forecasts, report = made([9, 1, 5])
    draw_fans(tmp_path / "fans.png", outcomes, report, forecasts, {"y": "°C"}, "h")
    draw_reliability(tmp_path / "reliability.png", report)
    draw_steps(tmp_path / "steps.png", report, "h")
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 3


def test_flat_series_have_no_best_one(tmp_path: Path) -> None:
    outcomes, forecasts, report = made([1, 1], scale=0)
    with pytest.raises(EvaluationError, match="no series has a scaled score"):
        draw_fans(tmp_path / "fans.png", outcomes, report, forecasts)
    draw_reliability(tmp_path / "reliability.png", report)
    draw_steps(tmp_path / "steps.png", report)
