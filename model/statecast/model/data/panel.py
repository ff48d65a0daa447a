"""Series on regular grids, the input of training and evaluation."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..frequency import Frequency
from ..zones import Zone
from .findings import Findings
from .times import moment


@dataclass(frozen=True)
class Series:
    """One series, with a row for every step.

    Attributes:
        unique_id: The series' id, unique in its panel.
        start_ns: The time of the first row, in nanoseconds since 1970; None without a column of times.
        values: Targets, then covariates, NaN where missing, [time, targets + covariates].
        categories: One text for each category of the panel.
    """

    unique_id: str
    start_ns: int | None
    values: NDArray[np.float64]
    categories: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of time steps."""
        return len(self.values)

    def times(self, frequency: Frequency | str) -> NDArray[np.int64]:
        """Return the time of each row in nanoseconds since 1970, int64 [time].

        Raises:
            DataError: The series has no times.
            FrequencyError: The frequency is not a usable alias, or the series does not lie on its grid.
        """
        if self.start_ns is None:
            raise DataError(f"series {self.unique_id!r} has no times: only position counts")
        parsed = Frequency.parse(frequency) if isinstance(frequency, str) else frequency
        return parsed.times(self.start_ns, self.rows)

    def until(self, rows: int) -> "Series":
        """Return the first rows of the series, or the whole series if it is shorter.

        Raises:
            DataError: The number of rows is negative.
        """
        if rows < 0:
            raise DataError(f"rows: expected 0 or more, got {rows}")
        return replace(self, values=self.values[:rows])


@dataclass(frozen=True)
class Panel:
    """Series with the same columns and frequency.

    Attributes:
        series: One or more series, in the order of the file; each has a value of a target.
        targets: The names of the targets, the first columns of the values.
        covariates: The names of the covariates, the other columns of the values.
        categories: The names of the categories.
        frequency: The time between two rows as a pandas alias; empty if only position counts.
        findings: Irregularities that reading the file found and repaired.
        time_zone: The zone that the caller named for the times; empty if none. If steps are a day or longer, times are
            wall clock times in this zone, or as written in the file. If steps are shorter, times are in UTC.
    """

    series: tuple[Series, ...]
    targets: tuple[str, ...]
    covariates: tuple[str, ...]
    categories: tuple[str, ...]
    frequency: str
    findings: Findings
    time_zone: str = ""

    @property
    def rows(self) -> int:
        """The number of time steps of all series together."""
        return sum(series.rows for series in self.series)

    def until(self, rows: int | None = None, time: str | int | datetime | None = None) -> "Panel":
        """Cut every series; series without any remaining value of a target are left out.

        Args:
            rows: How many rows of each series to keep; None for all.
            time: The last time to keep: ISO 8601, a datetime, or nanoseconds; in the panel's zone unless it names one.

        Returns:
            The cut panel, with unchanged findings, since they describe the file.

        Raises:
            DataError: Nothing remains, or a time is given but the panel has none.
        """
        cut: Iterable[Series] = self.series
        if time is not None:
            frequency, zone = self._parsed_frequency(), Zone.parse(self.time_zone)
            last_ns = moment(time, zone, on_wall_clock=frequency.counts_days)
            cut = [series.until(_rows_until(series, frequency, last_ns)) for series in cut]
        if rows is not None:
            cut = [series.until(rows) for series in cut]
        kept = tuple(series for series in cut if not np.isnan(series.values[:, : len(self.targets)]).all())
        if not kept:
            raise DataError("no series has a value up to the cut-off")
        return replace(self, series=kept)

    def rows_before(self, time: str | int | datetime) -> list[int]:
        """Return how many rows of each series lie before a time, which is given as in `until`.

        Raises:
            DataError: The panel has no times, or this is none.
        """
        frequency, zone = self._parsed_frequency(), Zone.parse(self.time_zone)
        first_ns = moment(time, zone, on_wall_clock=frequency.counts_days)
        return [min(each.rows, _rows_until(each, frequency, first_ns - 1)) for each in self.series]

    def by_target(self) -> "Panel":
        """Return each target as a separate series, series by series, without covariates and categories."""
        apart = tuple(
            replace(series, values=series.values[:, [at]], categories=())
            for series in self.series
            for at in range(len(self.targets))
        )
        return replace(self, series=apart, targets=("value",), covariates=(), categories=())

    def _parsed_frequency(self) -> Frequency:
        if not self.frequency:
            raise DataError("the panel cannot be cut at a time: only position counts")
        return Frequency.parse(self.frequency)


def _rows_until(series: Series, frequency: Frequency, last_ns: int) -> int:
    if series.start_ns is not None and frequency.step_ns is not None:
        return max(0, (last_ns - series.start_ns) // frequency.step_ns + 1)
    return int(np.searchsorted(series.times(frequency), last_ns, side="right"))
