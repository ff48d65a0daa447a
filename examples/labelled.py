"""Series with labelled anomalies, in the layout of NAB, and the figures of alarms against the labels."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Least distance between alarms, in rows, and most alarms of a score in a series.
APART, BUDGET = 50, 5


@dataclass(frozen=True)
class Series:
    """A labelled series.

    Attributes:
        name: The file's name without its suffix.
        times: Times as datetime64, [rows], without duplicates.
        values: Values, [rows].
        windows: The first and the last row of each labelled anomaly.
    """

    name: str
    times: NDArray[np.datetime64]
    values: Array
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """Return the number of rows at the start that may not raise an alarm, as NAB defines it."""
        return int(min(0.15 * len(self.values), 750))


@dataclass(frozen=True)
class Alarm:
    """A peak of a score.

    Attributes:
        series: Name of the series.
        row: Row of the peak.
        score: Height of the peak.
        window: Index of the labelled window with the peak; None outside all windows.
    """

    series: str
    row: int
    score: float
    window: int | None


@dataclass(frozen=True)
class Figures:
    """Counts of alarms and labelled windows.

    Attributes:
        alarms: Number of alarms.
        right: Alarms that lie in a window.
        found: Windows with at least one alarm.
        windows: Number of windows.
    """

    alarms: int
    right: int
    found: int
    windows: int

    @property
    def precision(self) -> float:
        """Return the share of alarms that lie in a window."""
        return self.right / max(self.alarms, 1)

    @property
    def recall(self) -> float:
        """Return the share of windows with an alarm."""
        return self.found / max(self.windows, 1)

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9)


def read_series(folder: Path) -> list[Series]:
    """Read the series that labels.json names and whose files exist; repeated timestamps keep their first row."""
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    series = []
    for path in (path for name in sorted(labels) if (path := folder / name).exists()):
        with path.open(newline="", encoding="utf-8") as file:
            rows: dict[str, float] = {}
            for row in csv.DictReader(file):
                rows.setdefault(row["timestamp"], float(row["value"]))
        times = np.array(list(rows), "datetime64[s]")
        bounds = [np.array(window, "datetime64[s]") for window in labels[path.name]["anomaly_windows"]]
        inside = [np.flatnonzero((times >= first) & (times <= last)) for first, last in bounds]
        windows = tuple((int(rows_in[0]), int(rows_in[-1])) for rows_in in inside if len(rows_in))
        series.append(Series(path.stem, times, np.array(list(rows.values())), windows))
    return series


def alarms_of(series: Series, score: Array) -> list[Alarm]:
    """Return the peaks of a score after the probation, highest first, each more than `APART` rows from a higher one."""
    left, alarms = score.copy(), []
    left[: series.probation] = -np.inf
    while np.isfinite(left[row := int(left.argmax())]):
        inside = [index for index, (first, last) in enumerate(series.windows) if first <= row <= last]
        alarms.append(Alarm(series.name, row, float(score[row]), inside[0] if inside else None))
        left[max(row - APART, 0) : row + APART + 1] = -np.inf
    return alarms


def judge(alarms: Sequence[Alarm], windows: int) -> Figures:
    """Compare alarms with labelled windows."""
    right = [(alarm.series, alarm.window) for alarm in alarms if alarm.window is not None]
    return Figures(len(alarms), len(right), len(set(right)), windows)


def average_precision(alarms: Sequence[Alarm], windows: int) -> float:
    """Return the area under the curve of precision against recall, 0 to 1; one threshold applies to all alarms."""
    seen: set[tuple[str, int]] = set()
    right, area = 0, 0.0
    for count, alarm in enumerate(sorted(alarms, key=lambda alarm: -alarm.score), start=1):
        if alarm.window is not None:
            right += 1
            if (alarm.series, alarm.window) not in seen:
                seen.add((alarm.series, alarm.window))
                area += right / count
    return area / max(windows, 1)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a score on all series.

    Attributes:
        alarms: All peaks by series name, highest first.
        per_series: Figures by series name, within the budget.
        total: Figures over all series, each within its budget.
        area: Average precision over all peaks of all series.
    """

    alarms: Mapping[str, list[Alarm]]
    per_series: Mapping[str, Figures]
    total: Figures
    area: float


def outcome_of(all_series: Sequence[Series], scores: Mapping[str, Array]) -> Outcome:
    """Judge one score, given as [rows] by series name."""
    alarms = {each.name: alarms_of(each, scores[each.name]) for each in all_series}
    windows = sum(len(each.windows) for each in all_series)
    chosen = [alarm for each in alarms.values() for alarm in each[:BUDGET]]
    per_series = {each.name: judge(alarms[each.name][:BUDGET], len(each.windows)) for each in all_series}
    peaks = [alarm for each in alarms.values() for alarm in each]
    return Outcome(alarms, per_series, judge(chosen, windows), average_precision(peaks, windows))
