"""A plot of the model's gates over several requests. Needs matplotlib."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .types import Gates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The gate that controls how long a unit remembers; units are sorted by it.
_KEEPERS = ("forget", "update")
_OPEN, _SIGNED, _UNKNOWN = "viridis", "RdBu_r", "#d9d9d9"
_MOST_LABELS = 16
_DOTS_PER_INCH = 130


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
