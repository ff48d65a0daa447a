"""Series with labelled anomalies, in the layout of NAB, and what alarms are worth against the labels."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Alarms lie more than so many rows apart, and every score may raise so many in a series.
APART, BUDGET = 50, 5


@dataclass(frozen=True)
class Series:
    """A labelled series.

    Attributes:
        name: The file's, without its ending.
        times: datetime64 [rows], each one once.
        values: [rows].
        windows: The first and the last row of each labelled anomaly.
    """

    name: str
    times: NDArray[np.datetime64]
    values: Array
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """How many rows there are before the first one that may raise an alarm, as NAB has it."""
        return int(min(0.15 * len(self.values), 750))


@dataclass(frozen=True)
class Alarm:
    """A peak of a score.

    Attributes:
        series: Of which series.
        row: Where.
        score: How high.
        window: The labelled window that it lies in; None outside of all.
    """

    series: str
    row: int
    score: float
    window: int | None


@dataclass(frozen=True)
class Figures:
    """How alarms and labelled windows agree.

    Attributes:
        alarms: How many.
        right: How many of them lie in a window.
        found: How many windows have one.
        windows: How many windows there are.
    """

    alarms: int
    right: int
    found: int
    windows: int

    @property
    def precision(self) -> float:
        """The share of alarms that lie in a window."""
        return self.right / max(self.alarms, 1)

    @property
    def recall(self) -> float:
        """The share of windows with an alarm."""
        return self.found / max(self.windows, 1)

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9)


def read_series(folder: Path) -> list[Series]:
    """Reads all series that labels.json names and that are there; of rows with the same timestamp the first."""
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
    """The peaks of a score after the probation, the highest first, none near a higher one."""
    left, alarms = score.copy(), []
    left[: series.probation] = -np.inf
    while np.isfinite(left[row := int(left.argmax())]):
        inside = [index for index, (first, last) in enumerate(series.windows) if first <= row <= last]
        alarms.append(Alarm(series.name, row, float(score[row]), inside[0] if inside else None))
        left[max(row - APART, 0) : row + APART + 1] = -np.inf
    return alarms


def judge(alarms: Sequence[Alarm], windows: int) -> Figures:
    """Compares alarms with labelled windows."""
    right = [(alarm.series, alarm.window) for alarm in alarms if alarm.window is not None]
    return Figures(len(alarms), len(right), len(set(right)), windows)


def average_precision(alarms: Sequence[Alarm], windows: int) -> float:
    """The area under precision against recall while one threshold for all alarms falls, 0 to 1."""
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
    """What a score makes of all series.

    Attributes:
        alarms: All peaks by the series' name, the highest first.
        per_series: By the series' name, within the budget.
        total: Over all series, within each one's budget.
        area: The average precision of all peaks of all series.
    """

    alarms: Mapping[str, list[Alarm]]
    per_series: Mapping[str, Figures]
    total: Figures
    area: float


def outcome_of(all_series: Sequence[Series], scores: Mapping[str, Array]) -> Outcome:
    """Judges one score, [rows] for each series by its name."""
    alarms = {each.name: alarms_of(each, scores[each.name]) for each in all_series}
    windows = sum(len(each.windows) for each in all_series)
    chosen = [alarm for each in alarms.values() for alarm in each[:BUDGET]]
    per_series = {each.name: judge(alarms[each.name][:BUDGET], len(each.windows)) for each in all_series}
    peaks = [alarm for each in alarms.values() for alarm in each]
    return Outcome(alarms, per_series, judge(chosen, windows), average_precision(peaks, windows))
