"""The demo's check that a session goes on where it was."""

import math

import numpy as np
import pytest

from statecast.client import Forecast, Version
from statecast.service.demo.story import DemoFailed, compare


def forecast(*medians: float, step: int = 30) -> Forecast:
    values = np.array(medians, np.float32).reshape(-1, 1, 1)
    return Forecast("disk", Version(step, 7), False, False, None, "", ("disk",), (0.5,), values)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2.0, 3.0), (2.0, 3.0)),
        ((0.0, 0.0), (0.0, 0.0)),
        ((math.nan, math.nan), (math.nan, math.nan)),
        ((0.01, 5e7), (24.0, 5e7 + 60)),  # after a burst: quantiles of 5e7, rounded to 1e-6 of it, and a median near 0
    ],
)
def test_rounding_is_no_difference(before: tuple[float, ...], after: tuple[float, ...]) -> None:
    compare("disk", forecast(*before), forecast(*after))


@pytest.mark.parametrize(
    ("before", "after"),
    [((2.0, 3.0), (2.0, 3.1)), ((2.0, 3.0), (2.0, math.nan)), ((0.01, 5e7), (0.01, 5.1e7)), ((0.0, 0.0), (0.0, 1e-3))],
)
def test_another_forecast_fails(before: tuple[float, ...], after: tuple[float, ...]) -> None:
    with pytest.raises(DemoFailed, match="session 'disk' gives another forecast"):
        compare("disk", forecast(*before), forecast(*after))


def test_another_version_fails() -> None:
    with pytest.raises(DemoFailed, match="session 'disk' was at"):
        compare("disk", forecast(1.0), forecast(1.0, step=29))
