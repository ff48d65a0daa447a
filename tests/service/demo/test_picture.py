"""What the demo's picture shows of a session."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import NDArray

from statecast.client import Forecast, Version
from statecast.service.demo.picture import draw

LEVELS = (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95)


def forecast(steps: int) -> Forecast:
    values = np.arange(14, dtype=np.float32).reshape(2, 7, 1)
    return Forecast("s", Version(steps, 1), False, False, None, "", ("y",), LEVELS, values, (), None, None, "")


@pytest.mark.parametrize(("rows", "killed_at", "first"), [(900, 700, 660), (900, 895, 740), (100, 50, 0), (3, 2, 0)])
def test_the_kill_is_in_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, killed_at: int, first: int
) -> None:
    drawn: dict[str, tuple[float, ...]] = {}
    plot, axvline = Axes.plot, Axes.axvline

    def plotted(self: Axes, x: NDArray[np.int64], y: NDArray[np.float64], **how: object) -> object:
        drawn[str(how["label"])] = tuple(x)
        return plot(self, x, y, **how)  # type: ignore[arg-type]

    def lined(self: Axes, x: float, **how: object) -> object:
        drawn[str(how["label"])] = (x,)
        return axvline(self, x, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "plot", plotted)
    monkeypatch.setattr(Axes, "axvline", lined)
    with mpl.rc_context():
        draw(tmp_path / "o.png", "t", {"s": ""}, {"s": np.arange(float(rows))}, {"s": forecast(rows)}, {"s": killed_at})
    assert (drawn["observed"][0], drawn["observed"][-1]) == (first, rows - 1)
    assert drawn["server killed"] == (killed_at - 0.5,)
    assert drawn["median"] == (rows, rows + 1)
