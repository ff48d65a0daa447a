"""Plots of forecasts, and of the model's gates over several requests. Need matplotlib."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .types import Forecast, Gates, step_times

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The gate that controls how long a unit remembers; units are sorted by it.
_KEEPERS = ("forget", "update")
_OPEN, _SIGNED, _UNKNOWN = "viridis", "RdBu_r", "#d9d9d9"
_MOST_LABELS = 16
_DOTS_PER_INCH = 130
_FORECAST, _PAST = "#1f6fb4", "#444444"
_PANEL_INCHES = 4.2, 2.6


def plot_gates(
    gates: Iterable[Gates | None],
    layer: int = 0,
    path: Path | str | None = None,
    labels: Sequence[object] | None = None,
) -> "Figure":
    """Plot gates as a matplotlib figure: a panel for each gate, and one for the cell state.

    A cell without a cell state has a panel for its hidden state instead. Requests run from left to right, and each row
    is a hidden unit. Units are sorted by their mean forget gate (GRU: update gate, RNN: hidden state), highest on top.

    Args:
        gates: Gates of consecutive requests of a session; None where a request has none.
        layer: Recurrent layer to plot, from 0.
        path: File to write, as PNG unless its suffix names another format; None to write none.
        labels: Labels of the requests, such as their times; None to number them from 1.

    Raises:
        ValueError: There are no gates; they are not of one model; the layer does not exist; or the number of labels
            differs from that of the requests.
        ImportError: matplotlib is not installed; `pip install matplotlib` brings it.
    """
    sequence = list(gates)
    panels = _panels(sequence, layer)
    if labels is not None and len(labels) != len(sequence):
        raise ValueError(f"{len(labels)} labels do not go with {len(sequence)} requests")

    from matplotlib.figure import Figure

    keeper = next((name for name in _KEEPERS if name in panels), "hidden state")
    order = np.argsort(-np.nanmean(panels[keeper], axis=0), kind="stable")
    figure = Figure(figsize=(10, 1.75 * len(panels) + 0.9), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False).ravel()
    for each, (name, values) in zip(axes, panels.items(), strict=True):
        _draw(each, name, values[:, order])
    figure.supylabel(f"hidden units, ranked by mean {keeper}{' gate' * (keeper in _KEEPERS)}", fontsize=10)
    axes[-1].set_xlabel("request")
    _label(axes[-1], labels)
    if path is not None:
        figure.savefig(path, dpi=_DOTS_PER_INCH)
    return figure


def plot_forecast(forecast: Forecast, history: Any = None, axes: Any = None) -> "Figure":
    """Plot a forecast as a fan: its median, and bands between the quantiles that lie opposite each other.

    A forecast of symbols is plotted as their probabilities, one on top of the other. Of several targets, each has a
    panel.

    Args:
        forecast: The forecast.
        history: Values before it: [time] or [time, targets], or a Series or DataFrame. Its times count if the forecast
            has times.
        axes: Axes of matplotlib to draw into, one for each target; None for a new figure.

    Raises:
        ValueError: The history has other columns than the forecast has targets, or there are too few axes.
        ImportError: matplotlib is not installed; `pip install matplotlib` brings it.
    """
    targets = len(forecast.targets)
    past = None if history is None else np.asarray(history, float).reshape(len(history), -1)
    if past is not None and past.shape[1] != targets:
        raise ValueError(f"history: expected [time, {targets}], a column for each target, got {past.shape[1]} columns")
    if axes is None:
        from matplotlib.figure import Figure

        size = 1.9 * _PANEL_INCHES[0], 0.4 + _PANEL_INCHES[1] * targets
        axes = Figure(figsize=size, layout="constrained").subplots(targets, 1, sharex=True)
    panels = np.atleast_1d(axes)
    if len(panels) < targets:
        raise ValueError(f"axes: expected one for each of the {targets} targets, got {len(panels)}")
    ahead = _ahead(forecast)
    for target, each in enumerate(panels[:targets]):
        if past is not None:
            each.plot(_before(forecast, history), past[:, target], color=_PAST, linewidth=1, label="observed")
        draw = _draw_symbols if forecast.classes else _draw_fan
        draw(each, ahead, forecast, target)
        each.set_title(
            forecast.session_id if targets == 1 else forecast.targets[target], loc="left", fontsize=10, parse_math=False
        )
        each.spines[["top", "right"]].set_visible(False)
        each.margins(x=0.01)
    if forecast.start_time is None:
        panels[targets - 1].set_xlabel("steps ahead")
    else:
        _date_axis(panels[targets - 1], ahead.tz)
    entries = len(panels[0].get_legend_handles_labels()[0])
    panels[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=min(entries, 6), fontsize=8, frameon=False)
    figure: Figure = panels[0].figure
    return figure


def plot_many(forecasts: Iterable[Forecast], histories: Sequence[Any] | None = None, columns: int = 3) -> "Figure":
    """Plot forecasts of one target beside each other, a panel for each.

    Args:
        forecasts: The forecasts.
        histories: Values before each of them, as for `plot_forecast`, in the same order; None for none.
        columns: Number of panels in a row.

    Raises:
        ValueError: There are no forecasts, not as many histories, or a forecast has several targets.
        ImportError: matplotlib is not installed; `pip install matplotlib` brings it.
    """
    shown = list(forecasts)
    if not shown or (histories is not None and len(histories) != len(shown)):
        raise ValueError(f"{len(shown)} forecasts cannot be plotted with {len(histories or ())} histories")
    for forecast in shown:
        if len(forecast.targets) > 1:
            raise ValueError(f"session {forecast.session_id!r} has several targets; plot it by itself")

    from matplotlib.figure import Figure

    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, forecast in enumerate(shown):
        plot_forecast(forecast, None if histories is None else histories[place], panels[place])
        panels[place].get_legend().remove()  # there is no room beside the title
    for empty in panels[len(shown) :]:
        empty.remove()
    return figure


def _ahead(forecast: Forecast) -> Any:
    """Return the places of the steps ahead on the axis: times, or 1 to horizon."""
    if forecast.start_time is None:
        return np.arange(1, forecast.horizon + 1)
    return step_times(forecast.start_time, forecast.frequency, forecast.time_zone, forecast.horizon)


def _before(forecast: Forecast, history: Any) -> Any:
    """Return the places of the history on the axis: its times, or those of the steps up to the forecast."""
    if forecast.start_time is None:
        return np.arange(1 - len(history), 1)
    import pandas as pd

    ahead = _ahead(forecast)
    index: Any = getattr(history, "index", None)
    if getattr(getattr(index, "dtype", None), "kind", "") == "M":
        times = pd.DatetimeIndex(index)
        return times if times.tz is not None else times.tz_localize(ahead.tz)
    return pd.date_range(end=ahead[0], periods=len(history) + 1, freq=forecast.frequency)[:-1]


def _draw_fan(axes: Any, ahead: Any, forecast: Forecast, target: int) -> None:
    order = np.argsort(forecast.quantile_levels)
    levels, values = np.array(forecast.quantile_levels)[order], forecast.values[:, order, target]
    pairs = [(low, len(levels) - 1 - low) for low in range(len(levels) // 2)]
    alpha = 0.6 / (len(pairs) + 1)
    for low, high in pairs:
        label = "" if low else f"{levels[low]:g} to {levels[high]:g}"  # the outermost band stands for all
        axes.fill_between(ahead, values[:, low], values[:, high], color=_FORECAST, alpha=alpha, lw=0, label=label)
    if levels[0] <= 0.5 <= levels[-1]:
        median = forecast.median.reshape(forecast.horizon, -1)[:, target]
        axes.plot(ahead, median, color=_FORECAST, linewidth=1.5, label="median", marker="." if len(median) == 1 else "")


def _draw_symbols(axes: Any, ahead: Any, forecast: Forecast, target: int) -> None:
    axes.stackplot(ahead, forecast.values[:, :, target].T, labels=forecast.classes, step="mid", alpha=0.8)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability")


def _date_axis(axes: Any, zone: Any) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=zone)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))


def _panels(sequence: Sequence[Gates | None], layer: int) -> dict[str, NDArray[np.float32]]:
    """Return the panels by name, each [requests, hidden]; NaN where a request has no gates."""
    known = [gates for gates in sequence if gates is not None]
    if not known:
        raise ValueError("no request has gates; ask for them with explain=True")
    first = known[0]
    if any(gates.names != first.names or gates.values.shape != first.values.shape for gates in known):
        raise ValueError("the gates are not all of one model")
    if not 0 <= layer < len(first.hidden):
        raise ValueError(f"layer {layer} is not among the layers 0 to {len(first.hidden) - 1}")
    blank = np.full(first.hidden.shape[1], np.nan, np.float32)
    panels = {
        name: np.array([blank if gates is None else gates.values[layer, at] for gates in sequence])
        for at, name in enumerate(first.names)
    }
    last = "hidden state" if first.cell is None else "cell state"
    states = [None if gates is None else gates.hidden if gates.cell is None else gates.cell for gates in sequence]
    panels[last] = np.array([blank if state is None else state[layer] for state in states])
    return panels


def _draw(axes: Any, name: str, values: NDArray[np.float32]) -> None:
    import matplotlib as mpl
    import matplotlib.colors
    from matplotlib.ticker import MaxNLocator

    is_gate = name not in ("candidate", "cell state", "hidden state")
    if name == "cell state":  # it has no bounds: linear up to 1, logarithmic beyond
        reach = max(1.0, float(np.nanmax(np.abs(values))))
        norm: mpl.colors.Normalize = mpl.colors.SymLogNorm(1.0, vmin=-reach, vmax=reach)
    else:
        norm = mpl.colors.Normalize(0.0 if is_gate else -1.0, 1.0)
    image = axes.imshow(
        values.T,
        cmap=mpl.colormaps[_OPEN if is_gate else _SIGNED].with_extremes(bad=_UNKNOWN),
        norm=norm,
        aspect="auto",
        interpolation="nearest",
        extent=(0.5, len(values) + 0.5, values.shape[1] - 0.5, -0.5),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axes.set_title(f"{name} gate" if is_gate else name, loc="left", fontsize=10)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, aspect=10)
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    if is_gate:
        bar.set_ticks([0, 0.5, 1], labels=["0 shut", "0.5", "1 open"])
    elif name == "cell state":
        tens = 10.0 ** np.arange(np.floor(np.log10(reach)) + 1)
        ticks = [*-tens[::-1], 0.0, *tens]
        bar.set_ticks(ticks, labels=[f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])


def _label(axes: Any, labels: Sequence[object] | None) -> None:
    if labels is None:
        return
    every = -(-len(labels) // _MOST_LABELS)
    shown = [(at + 1, str(label)) for at, label in enumerate(labels) if at % every == 0]
    turned = max(len(text) for _, text in shown) * len(shown) > 100
    axes.set_xticks(
        [at for at, _ in shown],
        [text for _, text in shown],
        rotation=30 if turned else 0,
        ha="right" if turned else "center",
        parse_math=False,
    )
