"""Pictures of an evaluation: fan charts, reliability, error by horizon."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from .baselines import SEASONAL_NAIVE
from .levels import SHOWN_BANDS, central_bands, interpolate, nearest
from .report import Report
from .scores import Outcomes, Scores
from .windows import EvaluationError, Forecasts

_OBSERVED, _MODEL, _NAIVE, _IDEAL = "#1f2a37", "#0f766e", "#b45309", "#6b7280"
_OTHERS = ("#7c3aed", "#2563eb", "#be185d", "#4d7c0f")
# Narrowest first; opaque, so that the legend shows the same colours as the picture.
_BANDS = ("#6fb3ac", "#a9d0cb", "#d5e7e5")
_LONGEST_TITLE, _MOST_MARKERS = 44, 100
_DOTS_PER_INCH = 130


def draw_fans(
    path: Path,
    outcomes: Outcomes,
    report: Report,
    forecasts: Sequence[Forecasts],
    units: Mapping[str, str] | None = None,
    step_unit: str = "steps",
) -> None:
    """Write a PNG of the series with the model's best, median and worst SQL.

    Each panel shows the last window with outcomes and the history before it.

    Args:
        path: The file to write.
        outcomes: The outcomes.
        report: The report on the forecasts, in the same order.
        forecasts: The model's forecasts first; seasonal naive is drawn as a thin line.
        units: The unit of each target's values, by name of the target.
        step_unit: The unit of time, such as "h".

    Raises:
        EvaluationError: No series has a score.
        OSError: The file cannot be written.
    """
    chosen = notable_series(report.rows[0].scores)
    with _style():
        figure = Figure(figsize=(9, 2.7 * len(chosen) + 0.7), layout="constrained")
        axes = figure.subplots(len(chosen), 1, squeeze=False).ravel()
        for each, (what, index) in zip(axes, chosen.items(), strict=True):
            _fan(each, outcomes, forecasts, index)
            _fan_title(each, what, outcomes, report, index)
            target = outcomes.truths[index].target
            unit = (units or {}).get(target, "")
            each.set_ylabel(f"{target} ({unit})" if unit else target, parse_math=False)
        figure.align_ylabels(axes)
        axes[-1].set_xlabel(f"time from the cut-off ({step_unit})")
        _common_legend(figure, axes)
        figure.savefig(path, dpi=_DOTS_PER_INCH)


def draw_reliability(path: Path, report: Report) -> None:
    """Write a PNG of the share of outcomes at or below each quantile, against its level.

    Raises:
        OSError: The file cannot be written.
    """
    with _style():
        figure = Figure(figsize=(5.6, 5.4), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=_IDEAL, linewidth=1, linestyle="--", label="as stated")
        for position, row in reversed(list(enumerate(report.rows))):
            shares = row.scores.observed_share
            axes.plot(list(shares), list(shares.values()), marker="o", **_line(report, position))
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xlabel("stated quantile level")
        axes.set_ylabel("share of outcomes at or below it")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_title("Reliability", fontweight="bold")
        axes.grid(alpha=0.2)
        _legend(axes, loc="upper left")
        figure.savefig(path, dpi=_DOTS_PER_INCH)


def draw_steps(path: Path, report: Report, step_unit: str = "steps") -> None:
    """Write a PNG of SQL by step ahead.

    Args:
        path: The file to write.
        report: The report with the forecasters' scores.
        step_unit: The unit of time, such as "h".

    Raises:
        OSError: The file cannot be written.
    """
    with _style():
        figure = Figure(figsize=(8, 3.8), layout="constrained")
        axes = figure.subplots()
        ahead = np.arange(1, report.protocol.horizon + 1)
        for position, row in reversed(list(enumerate(report.rows))):
            marker = "o" if len(ahead) < 15 else ""
            axes.plot(ahead, row.scores.sql_by_step, marker=marker, **_line(report, position))
        axes.set_xlabel(f"time ahead ({step_unit})")
        axes.set_ylabel("scaled quantile loss (SQL)")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.01)
        axes.set_title("Error by horizon", fontweight="bold")
        axes.grid(alpha=0.2)
        _legend(axes, loc="best")
        figure.savefig(path, dpi=_DOTS_PER_INCH)


def notable_series(scores: Scores) -> dict[str, int]:
    """Return the "best", "median" and "worst" series by SQL, fewer if fewer than three have a score.

    Raises:
        EvaluationError: No series has a score.
    """
    errors = np.array([each.sql for each in scores.series])
    ranked = [int(index) for index in np.argsort(errors, kind="stable") if not np.isnan(errors[index])]
    if not ranked:
        raise EvaluationError("no series has a scaled score, so that none is the best or the worst")
    places = {"best": 0, "worst": len(ranked) - 1, "median": (len(ranked) - 1) // 2}
    named = {ranked[place]: name for name, place in reversed(places.items())}
    return {named[index]: index for index in ranked if index in named}


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(
        {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left"}
    )


def _fan(axes: Axes, outcomes: Outcomes, forecasts: Sequence[Forecasts], index: int) -> None:
    truth, protocol = outcomes.truths[index], outcomes.protocol
    model = forecasts[0]
    row = _last_row(outcomes, model, index)
    window = model.windows[row]
    cutoff = int(truth.cutoffs[window])
    shown = min(cutoff, max(protocol.horizon, 3 * protocol.season))
    # A line does not show a value between two missing ones. Markers do, but many would overlap.
    marker = "." if shown + protocol.horizon <= _MOST_MARKERS else ""
    axes.plot(
        np.arange(1 - shown, protocol.horizon + 1),
        truth.values[cutoff - shown : cutoff + protocol.horizon],
        color=_OBSERVED, marker=marker, linewidth=1.1, label="observed", zorder=4,
    )  # fmt: skip
    ahead, quantiles = np.arange(1, protocol.horizon + 1), model.quantiles[index][row]
    _fill_bands(axes, ahead, quantiles, model.levels)
    median = interpolate(quantiles, model.levels, (0.5,))[:, 0]
    axes.plot(ahead, median, color=_MODEL, linewidth=1.6, label=f"{model.name}, median", zorder=5)
    for each in forecasts[1:]:
        if each.name == SEASONAL_NAIVE and window in each.windows:
            naive = interpolate(each.quantiles[index][each.windows.index(window)], each.levels, (0.5,))[:, 0]
            axes.plot(ahead, naive, color=_NAIVE, linewidth=0.9, label=each.name, zorder=3)
    axes.axvline(0.5, color=_IDEAL, linestyle="--", linewidth=0.9)
    axes.margins(x=0.01)


def _fill_bands(axes: Axes, ahead: NDArray[np.int64], quantiles: NDArray[np.float64], levels: Sequence[float]) -> None:
    bands = {round(levels[high] - levels[low], 6): (low, high) for low, high in central_bands(levels)}
    shown = nearest(list(bands), SHOWN_BANDS)
    for stated, colour in reversed(list(zip(shown, _BANDS, strict=False))):
        low, high = (quantiles[:, position] for position in bands[stated])
        axes.fill_between(ahead, low, high, color=colour, linewidth=0, label=f"{stated:.0%} band")


def _fan_title(axes: Axes, what: str, outcomes: Outcomes, report: Report, index: int) -> None:
    row = report.rows[0]
    series = row.scores.series[index]
    title = f"{what}: {outcomes.truths[index].name}"
    if len(title) > _LONGEST_TITLE:
        title = f"{title[: _LONGEST_TITLE - 1]}…"
    axes.set_title(title, fontweight="bold", fontsize=11, parse_math=False)
    said = f"SQL {series.sql:.2f} over all its windows, {SEASONAL_NAIVE} {row.reference.series[index].sql:.2f}"
    axes.set_title(said, loc="right", fontsize=9, color=_IDEAL)


def _last_row(outcomes: Outcomes, model: Forecasts, index: int) -> int:
    """Return the row of the model's last forecast that has an outcome."""
    seen = ~np.isnan(outcomes.values[index, list(model.windows)]).all(axis=1)
    return int(np.flatnonzero(seen)[-1])


def _line(report: Report, position: int) -> dict[str, Any]:
    """Return the line style of a forecaster among others: the model's line is thick and on top."""
    scores = report.rows[position].scores
    whole = len(scores.windows) == report.protocol.windows
    asked = "" if whole else f" ({len(scores.windows)} of {report.protocol.windows} windows)"
    others = [row.scores.name for row in report.rows[1:] if row.scores.name != SEASONAL_NAIVE]
    if position == 0:
        look = {"color": _MODEL, "linewidth": 2.2, "zorder": 5}
    elif scores.name == SEASONAL_NAIVE:
        look = {"color": _NAIVE, "linewidth": 1.3}
    else:
        look = {"color": _OTHERS[others.index(scores.name) % len(_OTHERS)], "linewidth": 1.1}
    return {"label": scores.name + asked, "markersize": 4, **look}


def _common_legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """Draw one legend below all panels, without repeated labels."""
    handles = {
        label: handle for each in panels for handle, label in zip(*each.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=7, fontsize=9, frameon=False)


def _legend(axes: Axes, loc: Literal["upper left", "best"]) -> None:
    """Draw a legend with the model first, although its line is drawn last."""
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc=loc, fontsize=9, frameon=False)
