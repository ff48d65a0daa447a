"""The rows of a file: sort them, remove duplicates and split them into series."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .columns import shortened
from .findings import FindingsCollector
from .times import Written, iso

# If several series are read as one, most times occur more than once.
_MOST_CONFLICTING = 0.25
_FEW_CONFLICTS = 3


@dataclass(frozen=True)
class Rows:
    """Rows, in the order of the file or, once sorted, of series and time.

    Attributes:
        ids: The ids of the series, in order of first appearance.
        series: The number of each row's series, [rows].
        times: Each row's time in nanoseconds, [rows]; None if only position counts.
        values: Targets and covariates, [rows, columns].
        categories: For each category, the number of each row's text, [rows], and the texts.
        written: The time zone in which the times are written.
    """

    ids: list[str]
    series: NDArray[np.int64]
    times: NDArray[np.int64] | None
    values: NDArray[np.float64]
    categories: dict[str, tuple[NDArray[np.int64], list[str]]]
    written: Written = field(default_factory=Written)

    def __len__(self) -> int:
        return len(self.series)

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_] | slice) -> "Rows":
        """Return some of the rows."""
        return replace(
            self,
            series=self.series[which],
            times=None if self.times is None else self.times[which],
            values=self.values[which],
            categories={name: (numbers[which], texts) for name, (numbers, texts) in self.categories.items()},
        )

    def until(self, last_ns: int, collector: FindingsCollector) -> "Rows":
        """Return the rows up to a time; the rows must have times."""
        if self.times is None:
            raise ValueError("rows without times cannot be cut at one")
        kept = self.times <= last_ns
        collector.add("cut", int((~kept).sum()))
        gone = np.setdiff1d(self.series, self.series[kept])
        collector.add("empty", len(gone), f"such as {shortened(self.ids[gone[0]])}" if len(gone) else "")
        return self.take(kept)

    def until_row(self, rows: int, collector: FindingsCollector) -> "Rows":
        """Return the first rows."""
        collector.add("cut", max(0, len(self) - rows))
        return self.take(slice(rows))

    def sorted(self, collector: FindingsCollector) -> "Rows":
        """Sort by series and time; rows of the same series and time stay in the order of the file."""
        if self.times is None:
            return self.take(np.argsort(self.series, kind="stable"))
        self._count_unsorted(self.times, collector)
        return self.take(np.lexsort((self.times, self.series)))

    def distinct(self, collector: FindingsCollector, single: bool) -> "Rows":
        """Keep only the last of several rows with the same series and time.

        Args:
            collector: Counts the dropped rows.
            single: Whether the file was read as one series without a column of ids.

        Raises:
            DataError: So many rows of a single series conflict that it must be several series.
        """
        if self.times is None:
            return self
        again = (self.times[1:] == self.times[:-1]) & (self.series[1:] == self.series[:-1])
        if not again.any():
            return self
        same = _equal(self.values[:-1], self.values[1:]).all(axis=1)
        conflicts = np.flatnonzero(again & ~same)
        if single and len(conflicts) > max(_FEW_CONFLICTS, _MOST_CONFLICTING * len(self)):
            raise DataError(
                f"{len(conflicts)} of {len(self)} rows have the time of another one but other values, first at "
                f"{iso(int(self.times[conflicts[0]]))}; which column tells the series apart?"
            )
        collector.add("repeated", int((again & same).sum()))
        collector.add("conflicting", len(conflicts), self._conflict(int(conflicts[0])) if len(conflicts) else "")
        return self.take(np.append(~again, True))

    def split(self) -> Iterator["Rows"]:
        """Yield the rows of each series that has any; the rows must be sorted."""
        starts = np.flatnonzero(np.diff(self.series, prepend=-1))
        for start, end in pairwise([*starts, len(self)]):
            yield self.take(slice(start, end))

    @property
    def unique_id(self) -> str:
        """The id of the first row's series."""
        return self.ids[int(self.series[0])]

    def place(self, row: int) -> str:
        """Return the series and the time of a row, for messages."""
        series = f"series {shortened(self.ids[self.series[row]])}"
        return series if self.times is None else f"{series}, {iso(int(self.times[row]))}"

    def static_categories(self) -> tuple[str, ...]:
        """Return the text of each category of a single series.

        Raises:
            DataError: The series has different texts of one category.
        """
        return tuple(self._static(name, *column) for name, column in self.categories.items())

    def _static(self, name: str, numbers: NDArray[np.int64], texts: list[str]) -> str:
        other = numbers != numbers[0]
        text = texts[int(numbers[0])]
        if other.any():
            found = f"{shortened(text)} and {shortened(texts[numbers[other.argmax()]])}"
            raise DataError(f"series {shortened(self.unique_id)}, column {name!r}: both {found}, expected one category")
        return text

    def _count_unsorted(self, times: NDArray[np.int64], collector: FindingsCollector) -> None:
        order = np.argsort(self.series, kind="stable")
        series, times = self.series[order], times[order]
        back = np.flatnonzero((times[1:] < times[:-1]) & (series[1:] == series[:-1]))
        if len(back):
            before, after = (iso(int(time)) for time in times[back[0] : back[0] + 2])
            where = f"series {shortened(self.ids[series[back[0]]])}"
            collector.add("unsorted", len(back), f"first {after} after {before}, {where}")

    def _conflict(self, row: int) -> str:
        first, then = self.values[row], self.values[row + 1]
        column = int((~_equal(first, then)).argmax())
        return f"first {self.place(row)}: {first[column]:g}, then {then[column]:g}"


def _equal(first: NDArray[np.float64], then: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Compare values; two missing values are equal."""
    equal: NDArray[np.bool_] = (first == then) | (np.isnan(first) & np.isnan(then))
    return equal
