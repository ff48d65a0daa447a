"""Outliers, as from a broken sensor: find them, so that a model is not validated on them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..data.findings import FindingsCollector
from ..data.panel import Panel, Series

# An outlier lies outside the range of all earlier values by more than this multiple of that range: so far that no
# promotion, storm or holiday is one.
RANGES_BEYOND = 30.0
# The range of the first half leaves out this share at each end, if the rest has a range.
WILD_SHARE = 0.01
# Outliers no further apart than GAP, as a share of the rows, form a group. A group longer than LONGEST, of which at
# least DENSE of the values are outliers, is not a fault: the series itself has changed.
LONGEST, GAP, DENSE = 0.2, 0.02, 0.5


def without_outliers(panel: Panel) -> Panel:
    """Replace values of a target that lie extremely far outside all earlier values by missing ones.

    Lasting changes stay, whether by growth or in one step. The replaced values are added to the findings.
    """
    found = FindingsCollector()
    series = tuple(_cleaned(each, panel, found) for each in panel.series)
    if not found.findings().items:
        return panel
    return replace(panel, series=series, findings=panel.findings.extended(found.findings().items))


def _cleaned(series: Series, panel: Panel, found: FindingsCollector) -> Series:
    values = series.values
    for at, target in enumerate(panel.targets):
        rows = outliers(series.values[:, at])
        if len(rows):
            values = values.copy() if values is series.values else values
            values[rows, at] = np.nan
            found.add("outlier", len(rows), _shown(series, int(rows[0]), at, panel.frequency), target)
    return replace(series, values=values)


def _shown(series: Series, row: int, at: int, frequency: str) -> str:
    """Return the series, time and value of an outlier; without times, the row of the series."""
    if frequency and series.start_ns is not None:
        when = str(np.datetime64(int(series.times(frequency)[row]), "ns").astype("datetime64[s]"))
    else:
        when = f"row {row + 1}"
    return f"{series.unique_id!r}, {when}: {series.values[row, at]:g}"


def outliers(column: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rows of the outliers in a column of values, float64 [T], NaN where missing."""
    rows = np.flatnonzero(np.isfinite(column))
    seen = column[rows]
    first = int(np.searchsorted(rows, (len(column) + 1) // 2))
    past = _usual(seen[:first])
    if not len(past) or past.min() == past.max():  # the usual range is unknown
        return rows[:0]
    margin = RANGES_BEYOND * float(past.max() - past.min())
    is_usual = np.ones(len(seen), bool)
    is_usual[:first] = np.abs(seen[:first] - np.clip(seen[:first], past.min(), past.max())) <= margin
    while True:
        found = first + _beyond(seen[first:], float(past.min()), float(past.max()))
        lasting = next((group for group in _groups(rows[found], len(column)) if _lasts(group, found, rows)), None)
        begin = len(found) if lasting is None else lasting.start
        is_usual[found[:begin]] = False
        if lasting is None:
            return rows[~is_usual]
        # An outlier within the new range is still an outlier.
        first = int(found[begin])
        past = np.concatenate([past, seen[:first][is_usual[:first]], np.quantile(seen[found[lasting]], [0.25, 0.75])])


def _usual(seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ends of the usual range of values: without the wildest, if the others have a range."""
    if not len(seen):
        return seen
    ends: NDArray[np.float64] = np.quantile(seen, [WILD_SHARE, 1 - WILD_SHARE], method="nearest")
    return ends if ends[0] < ends[1] else np.array([seen.min(), seen.max()])


def _beyond(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.int64]:
    """Return which values lie far outside the range; each other value extends the range."""
    found = []
    for at, value in enumerate(values.tolist()):
        margin = RANGES_BEYOND * (high - low)
        if not low - margin <= value <= high + margin:
            found.append(at)
        else:
            low, high = min(low, value), max(high, value)
    return np.array(found, np.int64)


def _groups(rows: NDArray[np.int64], length: int) -> list[slice]:
    """Split rows into groups at gaps."""
    ends = np.flatnonzero(np.diff(rows) > max(1, GAP * length)) + 1
    bounds = [0, *ends.tolist(), len(rows)]
    return [slice(begin, end) for begin, end in pairwise(bounds) if end > begin]


def _lasts(group: slice, found: NDArray[np.int64], rows: NDArray[np.int64]) -> bool:
    """Return True if a group is so long and dense that the series has changed."""
    first, last = int(found[group.start]), int(found[group.stop - 1])
    length = rows[-1] + 1
    is_long = rows[last] - rows[first] + 1 > LONGEST * length
    return bool(is_long and group.stop - group.start >= DENSE * (last - first + 1))
