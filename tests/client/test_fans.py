"""Pictures of forecasts: each value is drawn where it belongs."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.dates import num2date

from statecast.client import Forecast, Version
from statecast.client.plotting import plot_forecast, plot_many

LEVELS = (0.9, 0.1, 0.5)
START = datetime(2024, 3, 31, tzinfo=UTC)
FORECAST = Forecast(
    "a$b$c", Version(3, 0), False, False, None, "", ("value",), LEVELS,
    np.array([[3, 1, 2], [6, 4, 5]], np.float32)[..., None],
)  # fmt: skip
HOURLY = replace(FORECAST, start_time=START, frequency="h", time_zone="Europe/Berlin")


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Points of each line, by its label."""
    return {
        line.get_label(): (np.asarray(line.get_xdata(orig=False)).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.lines
    }


def test_the_fan_holds_the_quantiles_and_the_history_comes_before_it() -> None:
    (axes,) = FORECAST.plot([7.0, np.nan, 9.0]).axes
    drawn = lines(axes)
    assert drawn["median"] == ([1, 2], [2, 5])
    assert drawn["observed"][0] == [-2, -1, 0]
    (band,) = axes.collections
    assert band.get_label() == "0.1 to 0.9"
    assert {tuple(point) for point in np.asarray(band.get_paths()[0].vertices).tolist()} == {
        (1, 1),
        (1, 3),
        (2, 4),
        (2, 6),
    }
    assert axes.get_xlabel() == "steps ahead"


@pytest.mark.parametrize("zone", ["UTC", None])
def test_times_are_those_of_the_forecast_and_the_history(zone: str | None) -> None:
    index = pd.date_range("2024-03-30T22:00" if zone else "2024-03-30T23:00", periods=2, freq="h", tz=zone)
    drawn = lines(HOURLY.plot(pd.Series([1.0, 2.0], index)).axes[0])
    shown = [num2date(x) for name in ("observed", "median") for x in drawn[name][0]]
    assert shown == [START + pd.Timedelta(hours=hours) for hours in (-2, -1, 0, 1)]
    assert lines(HOURLY.plot([1.0, 2.0]).axes[0])["observed"][0] == pytest.approx(drawn["observed"][0])


def test_several_targets_have_a_panel_each() -> None:
    both = replace(FORECAST, targets=("flow", "heat"), values=np.repeat(FORECAST.values, 2, axis=2))
    figure = both.plot(pd.DataFrame({"flow": [1.0], "heat": [2.0]}))
    assert [axes.get_title("left") for axes in figure.axes] == ["flow", "heat"]
    assert lines(figure.axes[1])["observed"] == ([0], [2])
    with pytest.raises(ValueError, match=r"history: expected \[time, 2\]"):
        both.plot([1.0])
    with pytest.raises(ValueError, match="one for each of the 2 targets"):
        plot_forecast(both, axes=figure.axes[:1])
    with pytest.raises(ValueError, match="'a\\$b\\$c' has several targets"):
        plot_many([both])


def test_probabilities_of_symbols_add_up() -> None:
    symbols = replace(FORECAST, quantile_levels=(), classes=("a", "b", "c"), values=FORECAST.values / np.float32(10))
    (axes,) = symbols.plot().axes
    assert [area.get_label() for area in axes.collections] == ["a", "b", "c"]
    assert np.asarray(axes.collections[-1].get_paths()[0].vertices)[:, 1].max() == pytest.approx(1.5)


def test_many_are_drawn_in_rows(tmp_path: Path) -> None:
    figure = plot_many([FORECAST] * 4, [[1.0], [2.0], [3.0], [4.0]])
    assert [lines(axes)["observed"][1] for axes in figure.axes] == [[1.0], [2.0], [3.0], [4.0]]
    assert figure.axes[0].get_title("left") == "a$b$c"
    figure.savefig(tmp_path / "many.png")
    assert (tmp_path / "many.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="4 forecasts cannot be plotted with 1 histories"):
        plot_many([FORECAST] * 4, [[1.0]])


def test_a_session_forecasts_and_plots(client: Any, session_id: str) -> None:
    session = client.session(session_id, model="hourly")
    history = pd.Series(range(5), pd.date_range("2024-03-01", periods=5, freq="h"))
    session.observe(history)
    drawn = lines(session.plot(3, history=history).axes[0])
    assert drawn["median"][1] == session.forecast(3).median.tolist()
    assert np.diff(drawn["observed"][0] + drawn["median"][0]) == pytest.approx(1 / 24)
