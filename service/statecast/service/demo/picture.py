"""Draws the demo's picture: history and fan chart, one panel per session."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from statecast.client import Forecast

HISTORY_STEPS, STEPS_BEFORE_KILL = 160, 40
_BANDS = ((0.05, 0.95, 0.18), (0.1, 0.9, 0.26), (0.3, 0.7, 0.4))
_HISTORY, _FORECAST, _KILL = "#1f2a37", "#0f766e", "#b91c1c"


def draw(
    path: Path,
    title: str,
    units: Mapping[str, str],
    history: Mapping[str, NDArray[np.float64]],
    forecasts: Mapping[str, Forecast],
    killed_at: Mapping[str, int],
) -> None:
    """Write a picture with the last steps of each session, its forecast, and where the server was killed.

    `history` holds each session's values [time], `killed_at` how many of them came before the kill.
    """
    mpl.rcParams["font.size"] = 9
    columns = 2 if len(forecasts) > 1 else 1
    rows = -(-len(forecasts) // columns)
    figure = Figure(figsize=(5.5 * columns, 2.6 * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for each, (name, forecast) in zip(axes, forecasts.items(), strict=False):
        _panel(each, history[name], forecast, killed_at[name])
        each.set_xlabel("step")
        each.set_title(
            f"{name} ({units[name]})" if units[name] else name, loc="left", fontweight="bold", parse_math=False
        )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.suptitle(title, parse_math=False)
    figure.savefig(path, dpi=130)


def _panel(axes: Axes, history: NDArray[np.float64], forecast: Forecast, killed_at: int) -> None:
    begin = max(0, min(len(history) - HISTORY_STEPS, killed_at - STEPS_BEFORE_KILL))
    axes.plot(np.arange(begin, len(history)), history[begin:], color=_HISTORY, linewidth=1.0, label="observed")
    ahead = np.arange(len(history), len(history) + len(forecast.median))
    for low, high, alpha in _BANDS:
        if low in forecast.quantile_levels and high in forecast.quantile_levels:
            axes.fill_between(
                ahead, forecast.quantile(low), forecast.quantile(high), color=_FORECAST, alpha=alpha, linewidth=0,
                label=f"{high - low:.0%} band",
            )  # fmt: skip
    axes.plot(ahead, forecast.median, color=_FORECAST, linewidth=1.6, label="median")
    axes.axvline(killed_at - 0.5, color=_KILL, linestyle="--", linewidth=1.0, label="server killed")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
