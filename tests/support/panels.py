"""Small panels of series with known results."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from statecast.model.data import Findings, Panel, Series

START_NS = int(pd.Timestamp("2024-01-01").value)
Values = NDArray[np.floating] | NDArray[np.integer]


def panel_of(*values: Values, frequency: str = "", covariates: tuple[str, ...] = ()) -> Panel:
    """Return a panel with one series for each array, [time] or [time, 1 + covariates].

    With a frequency, all series begin on 2024-01-01.
    """
    start = START_NS if frequency else None
    series = tuple(
        Series(f"s{index}", start, each.reshape(len(each), -1).astype(np.float64)) for index, each in enumerate(values)
    )
    return Panel(series, ("y",), covariates, (), frequency, Findings())


def waves(rows: int, *, period: int = 12, noise: float = 0.3, series: int = 3, seed: int = 0) -> list[Values]:
    """Return noisy sines, each with its own level and phase."""
    rng = np.random.default_rng(seed)
    return [
        10 * (each + 1) + 3 * np.sin(2 * np.pi * np.arange(rows) / period + each) + noise * rng.normal(size=rows)
        for each in range(series)
    ]
