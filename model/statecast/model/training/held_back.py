"""Which rows of a panel are held back from training, to choose the weights on and to say how good they are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..data.findings import Finding, Findings
from ..data.panel import Panel, Series
from ..errors import DataError
from ..evaluation.rolling import Cutoffs, is_seen
from ..evaluation.windows import Protocol

VALIDATION_SHARE = 8
VALIDATION_WINDOWS = 20
# Long enough for the state to be what it is on an endless series, in the longest half-lives and lags.
VALIDATION_CONTEXT = 3000
# Of the outcomes that a window of this series has on average.
LEAST_OUTCOMES = 0.5
# A window whose steps are so much larger than those of any window before it is a broken sensor's; if more than this
# share of a series is like that, it is how the series has become.
BROKEN_STEPS, MOST_BROKEN = 3.0, 0.2
EXAMPLES = 3


@dataclass(frozen=True)
class HeldBack:
    """A panel parted into what to train on and what to validate on.

    Attributes:
        learned: Every series up to its first cut-off; all of a series that is not validated.
        validated: Whole series.
        protocol: How many windows, how far ahead; the season is left at 1.
        cutoffs: When each validated series is forecast; they lie as the protocol says unless its end is of no use.
    """

    learned: Panel
    validated: Panel
    protocol: Protocol
    cutoffs: Cutoffs


def hold_back(panel: Panel, horizon: int, rows: int | None = None) -> HeldBack:
    """Splits the last rows of every series that is long enough off, to validate on.

    Windows without outcomes, or with a broken sensor's, are passed over: as many before them are taken instead.

    Args:
        panel: All there is; what was found while rows were held back is added to its findings.
        horizon: How many steps ahead to forecast.
        rows: How many rows to hold back; None for the default.

    Raises:
        DataError: No series is long enough, or has values where they are needed.
    """
    protocol = _protocol(panel, horizon, rows)
    held = -(protocol.first_cutoff or 0)
    long = {series.unique_id: series for series in panel.series if series.rows >= 2 * held}
    if not long:
        needs = f"{2 * held} rows, which {held} held back for a horizon of {horizon} steps need"
        raise DataError(f"no series has {needs}: half to train on, half to validate; choose fewer (--validation-rows)")
    usable = {name: _usable(series, len(panel.targets), protocol) for name, series in long.items()}
    windows = min(protocol.windows, max(len(each) for each in usable.values()))
    if not windows:
        raise DataError(
            f"validation_rows: no series has values of a target in any {horizon} rows from row {held} on, where rows "
            "are held back to validate on; cut the empty end off, or read data of more rows"
        )
    chosen = {name: each[-windows:] for name, each in usable.items() if len(each) >= windows}
    seen = {
        name: cutoffs
        for name, cutoffs in chosen.items()
        if is_seen(long[name], panel.targets, int(cutoffs[0]), VALIDATION_CONTEXT)
    }
    if not seen:
        raise DataError(
            f"no series of {2 * held} rows has values of every target before the {held} rows held back; choose "
            "fewer (--validation-rows)"
        )
    panel = _with_findings(panel, seen, protocol)
    learned = tuple(
        series.until(int(seen[series.unique_id][0])) if series.unique_id in seen else series for series in panel.series
    )
    validated = tuple(series for series in panel.series if series.unique_id in seen)
    cutoffs = [seen[series.unique_id] for series in validated]
    protocol = replace(protocol, windows=windows)
    return HeldBack(replace(panel, series=learned), replace(panel, series=validated), protocol, cutoffs)


def _protocol(panel: Panel, horizon: int, rows: int | None) -> Protocol:
    longest = max(series.rows for series in panel.series)
    held = rows or int(np.clip(longest // VALIDATION_SHARE, horizon, VALIDATION_WINDOWS * horizon))
    if held < horizon:
        raise DataError(
            f"validation_rows: {held} rows are fewer than a horizon of {horizon}; hold back as many at least"
        )
    step = max(horizon, held // VALIDATION_WINDOWS)
    windows = 1 + (held - horizon) // step
    return Protocol(horizon=horizon, season=1, windows=windows, step=step, first_cutoff=-held)


def _usable(series: Series, targets: int, protocol: Protocol) -> NDArray[np.int64]:
    """The cut-offs after which there is something to score, ascending; those of the protocol are the last ones."""
    at_end = protocol.cutoffs(series.rows)
    held = series.rows - int(at_end[0])
    before = np.arange(int(at_end[0]) - protocol.stride, -1, -protocol.stride)[::-1]
    cutoffs = np.concatenate([before, at_end])
    values = series.values[:, :targets]
    good = np.ones(len(cutoffs), bool)
    windows = cutoffs[:, None] + np.arange(protocol.horizon)
    for column in values.T:
        outcomes = np.isfinite(column)
        good &= outcomes[windows].mean(axis=1) >= LEAST_OUTCOMES * outcomes.mean()
        good &= ~_broken(column, windows)
    good &= np.isfinite(values[windows]).any(axis=(1, 2))
    return cutoffs[good & (cutoffs >= held)]


def _broken(column: NDArray[np.float64], windows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which windows, bool [W], hold steps of another size than all before them; none of the first half of a series."""
    seen = np.flatnonzero(np.isfinite(column))
    steps = np.zeros(len(column))
    steps[seen[1:]] = np.abs(np.diff(column[seen]))
    sizes = steps[windows].mean(axis=1)
    broken = np.zeros(len(sizes), bool)
    largest = 0.0
    for at, size in enumerate(sizes):
        broken[at] = windows[at, 0] >= len(column) / 2 and 0 < largest < size / BROKEN_STEPS
        if not broken[at]:
            largest = max(largest, float(size))
    return broken if broken.mean() <= MOST_BROKEN else np.zeros_like(broken)


def _with_findings(panel: Panel, cutoffs: dict[str, NDArray[np.int64]], protocol: Protocol) -> Panel:
    """Names the series of which a window was passed over."""
    rows = {series.unique_id: series.rows for series in panel.series}
    moved = [name for name, each in cutoffs.items() if not set(each) <= set(protocol.cutoffs(rows[name]))]
    if not moved:
        return panel
    found = Finding("moved", len(moved), example=_shown(moved))
    return replace(panel, findings=Findings((*panel.findings.items, found)))


def _shown(names: Sequence[str]) -> str:
    shown: Iterable[str] = (f"{name!r}" for name in names[:EXAMPLES])
    return ", ".join(shown) + (", ..." if len(names) > EXAMPLES else "")
