"""Rows of a panel that are held back from training, to choose and score the weights."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..data.findings import Finding
from ..data.panel import Panel, Series
from ..errors import DataError
from ..evaluation.rolling import Cutoffs, is_seen, truths_of
from ..evaluation.scores import Outcomes
from ..evaluation.windows import Protocol
from .outliers import without_outliers

VALIDATION_SHARE = 8
VALIDATION_WINDOWS = 20
# A window needs this share of the values that so many steps of its series have on average.
LEAST_OUTCOMES = 0.5
EXAMPLES = 3


@dataclass(frozen=True)
class HeldBack:
    """A panel split into training and validation data.

    Attributes:
        whole: The whole panel, with findings of the split.
        learned: The training data: every validated series up to its first cut-off, and all other series.
        validated: The validated series, whole.
        protocol: The number of windows, the horizon, and the season that scales the scores.
        cutoffs: The cut-offs of each validated series. They follow the protocol unless the series' end lacks values.
        planned: The number of windows if all had values.
    """

    whole: Panel
    learned: Panel
    validated: Panel
    protocol: Protocol
    cutoffs: Cutoffs
    planned: int

    def summary(self) -> str:
        """Return a line for the user about the windows of validation and the rows of training."""
        protocol, whole = self.protocol, self.whole
        fewer = "" if protocol.windows == self.planned else f" ({self.planned} were planned, the others have no values)"
        return (
            f"validated on {protocol.windows} windows of {protocol.horizon} steps{fewer} in "
            f"{len(self.validated.series)} of {len(whole.series)} series, "
            f"learned from {self.learned.rows:,} of {whole.rows:,} rows"
        )


def hold_back(panel: Panel, horizon: int, rows: int | None = None, season: int = 1) -> HeldBack:
    """Hold back the last rows of every series that is long enough, for validation.

    Windows in which no target has enough values are replaced by as many earlier windows. In what is validated,
    outliers count as missing; training gets them as they are.

    Args:
        panel: The whole panel.
        horizon: How many steps ahead to forecast.
        rows: How many rows to hold back; None for the default.
        season: Steps in a season, for the scale of the scores.

    Raises:
        DataError: No series is long enough, has the necessary values, or varies before the rows held back.
    """
    protocol = replace(_protocol(panel, horizon, rows), season=season)
    held = -(protocol.first_cutoff or 0)
    cleaned = without_outliers(panel)
    long = {series.unique_id: series for series in cleaned.series if series.rows >= 2 * held}
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
    seen = {name: each for name, each in chosen.items() if is_seen(long[name], panel.targets, int(each[0]))}
    if not seen:
        raise _nothing_seen(panel, held)
    return _parted(panel, cleaned, seen, protocol, windows)


def _nothing_seen(panel: Panel, held: int) -> DataError:
    """Return the error for a panel in which no series has values of every target early enough."""
    for at, target in enumerate(panel.targets):
        if not any(np.isfinite(series.values[:, at]).any() for series in panel.series):
            return DataError(f"column {target!r} has no values at all; leave it out")
    return DataError(
        f"no series of {2 * held} rows has values of every target ({', '.join(panel.targets)}) before the {held} rows "
        "held back; choose fewer (--validation-rows), or leave out a target that begins late"
    )


def _parted(
    panel: Panel, cleaned: Panel, seen: dict[str, NDArray[np.int64]], planned: Protocol, windows: int
) -> HeldBack:
    """Part a panel; `cleaned` is the same without outliers."""
    validated = tuple(series for series in cleaned.series if series.unique_id in seen)
    cutoffs = [seen[series.unique_id] for series in validated]
    protocol = replace(planned, windows=windows)
    outcomes = Outcomes.of(truths_of(replace(panel, series=validated), cutoffs), protocol)
    if not np.isfinite(outcomes.values / outcomes.scales[..., None]).any():
        raise DataError(
            f"no series has two values one season ({protocol.season} steps) apart that differ before the rows held "
            "back, so nothing could tell a good model from a bad one; train on data that vary"
        )
    panel = _with_findings(replace(panel, findings=cleaned.findings), seen, planned, outcomes)
    learned = tuple(
        series.until(int(seen[series.unique_id][0])) if series.unique_id in seen else series for series in panel.series
    )
    return HeldBack(
        panel, replace(panel, series=learned), replace(panel, series=validated), protocol, cutoffs, planned.windows
    )


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
    """Return the cut-offs with enough outcomes to score, ascending: those of the protocol and earlier ones."""
    at_end = protocol.cutoffs(series.rows)
    held = series.rows - int(at_end[0])
    before = np.arange(int(at_end[0]) - protocol.stride, -1, -protocol.stride)[::-1]
    cutoffs = np.concatenate([before, at_end])
    windows = cutoffs[:, None] + np.arange(protocol.horizon)
    outcomes = np.isfinite(series.values[:, :targets])
    # One good target suffices, so a target that ends early does not move the windows of the others.
    enough = outcomes[windows].mean(axis=1) >= LEAST_OUTCOMES * outcomes.mean(axis=0)
    good = (enough & outcomes[windows].any(axis=1)).any(axis=1)
    chosen: NDArray[np.int64] = cutoffs[good & (cutoffs >= held)]
    return chosen


def _with_findings(panel: Panel, cutoffs: dict[str, NDArray[np.int64]], planned: Protocol, outcomes: Outcomes) -> Panel:
    """Add findings about series with moved windows, series left out, and targets without outcomes."""
    rows = {series.unique_id: series.rows for series in panel.series}
    blank = [bool(np.isnan(each).all()) for each in outcomes.values]
    found = {
        "moved": [name for name, each in cutoffs.items() if not set(each) <= set(planned.cutoffs(rows[name]))],
        "unvalidated": [name for name in rows if name not in cutoffs],
        "unscored": [truth.name for truth, empty in zip(outcomes.truths, blank, strict=True) if empty],
    }
    items = [Finding(kind, len(names), example=_shown(names)) for kind, names in found.items() if names]
    return replace(panel, findings=panel.findings.extended(items))


def _shown(names: Sequence[str]) -> str:
    shown: Iterable[str] = (f"{name!r}" for name in names[:EXAMPLES])
    return ", ".join(shown) + (", ..." if len(names) > EXAMPLES else "")
