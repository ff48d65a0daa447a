"""Outliers, as from a broken sensor: find them, so that a model is neither trained nor scored on them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..data.findings import Finding, Findings
from ..data.panel import Panel

# An outlier lies outside the range of all earlier values by more than this multiple of that range.
RANGES_BEYOND = 3.0
# Both are shares of the rows. Outliers no further apart than GAP form a group. A group longer than LONGEST is not a
# fault: the series itself has changed.
LONGEST, GAP = 0.2, 0.02


def without_outliers(panel: Panel) -> Panel:
    """Replace values of a target that lie far outside all earlier values by missing ones.

    The first half of each series stays unchanged, because it shows the usual range. Lasting changes also stay, whether
    by growth or in one step. The replaced values are added to the findings.
    """
    series, count, worst, example = [], 0, 0.0, ""
    for each in panel.series:
        values = each.values
        for at, target in enumerate(panel.targets):
            column = each.values[:, at]
            rows = outliers(column)
            if not len(rows):
                continue
            values = values.copy() if values is each.values else values
            values[rows, at] = np.nan
            count += len(rows)
            largest = rows[np.abs(column[rows]).argmax()]
            if abs(column[largest]) > worst:
                worst = abs(column[largest])
                example = f"{target} of {each.unique_id!r} is {column[largest]:g} in row {largest + 1}"
        series.append(replace(each, values=values))
    if not count:
        return panel
    found = Finding("outlier", count, example=example)
    return replace(panel, series=tuple(series), findings=Findings((*panel.findings.items, found)))


def outliers(column: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rows of the outliers in a column of values, float64 [T], NaN where missing."""
    rows = np.flatnonzero(np.isfinite(column))
    seen = column[rows]
    first = int(np.searchsorted(rows, (len(column) + 1) // 2))
    if not first or seen[:first].min() == seen[:first].max():  # the usual range is unknown
        return rows[:0]
    usual, past = np.ones(len(seen), bool), seen[:first]
    while True:
        found = first + _beyond(seen[first:], float(past.min()), float(past.max()))
        groups = _groups(rows[found], len(column))
        lasting = next((group for group in groups if _extent(rows[found[group]]) > LONGEST * len(column)), None)
        begin = len(found) if lasting is None else lasting.start
        usual[found[:begin]] = False
        if lasting is None:
            return rows[~usual]
        # Look for outliers again after the change, since faults may occur there too.
        first = int(found[begin])
        past = np.concatenate([seen[:first][usual[:first]], np.quantile(seen[found[lasting]], [0.25, 0.75])])


def _beyond(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.int64]:
    """Return the positions of values far outside a range; each other value extends the range."""
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


def _extent(rows: NDArray[np.int64]) -> int:
    return int(rows[-1] - rows[0]) + 1
