"""Read a CSV or Parquet file into a panel."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..frequency import Frequency
from ..zones import Zone
from .columns import listed, numbers, shortened, texts
from .filling import common_frequency, filled
from .findings import FindingsCollector
from .grid import look_daily
from .layout import Layout, Roles
from .panel import Panel, Series
from .rows import Rows
from .tables import open_source, stem
from .times import TimeColumn, moment, times

Until: TypeAlias = str | int | datetime


def read_panel(
    path: Path | str,
    layout: Layout | None = None,
    *,
    frequency: str | None = None,
    max_rows: int | None = None,
    until: Until | None = None,
) -> Panel:
    """Read a file into a panel of regular series, and report what was repaired.

    Args:
        path: A file that ends in .csv, .csv.gz, .parquet or .pq.
        layout: The roles of the columns; None for Nixtla's unique_id, ds and y.
        frequency: The time between two rows as a pandas alias; None to infer it.
        max_rows: How many rows of each series to keep, including missing rows; None for all.
        until: The last time to keep: ISO 8601, a datetime, or nanoseconds. Unless it names a zone, it is in the
            layout's time zone, or else in UTC. Later rows must be readable, but affect neither the frequency nor the
            values of the rows kept.

    Raises:
        DataError: The file, a column, a value or a time does not fit the layout. Rows in messages count from 1 without
            the header.
        FrequencyError: The frequency is not a usable pandas alias.
    """
    layout = layout or Layout()
    _check(layout, frequency, max_rows)
    collector = FindingsCollector()
    source = _load(Path(path), layout, collector)
    roles = source.roles
    rows, until_ns = _timed(source, layout, frequency, until, collector)
    parts = _parts(rows, roles, until_ns, max_rows, collector)
    if not parts:
        raise DataError(f"there are no rows until {until}")
    alias = "" if roles.time is None else frequency or common_frequency(parts)
    series = _regular(parts, roles, layout, alias, max_rows, collector)
    roles = replace(roles, targets=layout.targets) if layout.wide else roles
    kept = tuple(one for one in series if _is_observed(one, roles, collector))
    if not kept:
        raise DataError(f"no series has a value of {listed(roles.targets)}")
    return Panel(
        kept, roles.targets, roles.covariates, roles.categories, alias, collector.findings(), layout.time_zone
    )  # fmt: skip


def _check(layout: Layout, frequency: str | None, max_rows: int | None) -> None:
    """Refuse arguments that are wrong for every file."""
    if max_rows is not None and max_rows < 1:
        raise DataError(f"max_rows: expected at least 1, got {max_rows}")
    if frequency and layout.time is None:
        raise DataError("frequency: there is no column of times")


class _Source(NamedTuple):
    """The rows of a file without their times, which are in a separate column."""

    rows: Rows
    roles: Roles
    times: TimeColumn | None


def _load(path: Path, layout: Layout, collector: FindingsCollector) -> _Source:
    source = open_source(path, layout.delimiter)
    roles = layout.resolve(source.names)
    ignored = [name for name in source.names if name not in roles.used]
    collector.add("ignored", len(ignored), listed(ignored))
    columns = source.read(roles.used)
    count = len(columns[roles.used[0]])
    if not count:
        raise DataError(f"{path} has no rows but its header")
    stamps = None
    if roles.time is not None:
        zone = Zone.parse(layout.time_zone) if layout.time_zone else None
        stamps = times(roles.time, columns[roles.time], layout.time_format, zone, collector)
    values = np.empty((count, len(roles.values)))
    for number, name in enumerate(roles.values):
        values[:, number] = numbers(name, columns[name], layout.decimal, layout.thousands)
    ids, series = [stem(path) or "series"], np.zeros(count, np.int64)
    if roles.unique_id is not None:
        series, ids = texts(roles.unique_id, columns[roles.unique_id])
        if "" in ids:
            row = int((series == ids.index("")).argmax())
            raise DataError(f"column {roles.unique_id!r}, row {row + 1}: the id of the series is missing")
    categories = {name: texts(name, columns[name]) for name in roles.categories}
    return _Source(Rows(ids, series, None, values, categories), roles, stamps)


def _timed(
    source: _Source, layout: Layout, frequency: str | None, until: Until | None, collector: FindingsCollector
) -> tuple[Rows, int | None]:
    """Return the rows with times, and the last time to keep; wall clock times if steps are a day or longer."""
    rows, column = source.rows, source.times
    if column is None:
        if until is not None:
            raise DataError("until: there is no column of times to cut at")
        return rows, None
    zone = Zone.parse(layout.time_zone)
    last = None if until is None else moment(until, zone, on_wall_clock=column.is_on_wall_clock)
    in_days = Frequency.parse(frequency).counts_days if frequency else look_daily(column.order, rows.series, last)
    stamps = column.walls(collector) if in_days else column.instants(rows.series, collector)
    last = None if until is None else moment(until, zone, on_wall_clock=in_days)
    return replace(rows, times=stamps, written=column.written), last


def _parts(
    rows: Rows, roles: Roles, until_ns: int | None, max_rows: int | None, collector: FindingsCollector
) -> list[Rows]:
    """Return the rows to keep of each series, in order."""
    if until_ns is not None:
        rows = rows.until(until_ns, collector)
    parts = list(rows.sorted(collector).distinct(collector, single=roles.unique_id is None).split())
    return parts if max_rows is None else [part.until_row(max_rows, collector) for part in parts]


def _regular(
    parts: list[Rows], roles: Roles, layout: Layout, alias: str, max_rows: int | None, collector: FindingsCollector
) -> list[Series]:
    """Return the series with a row for each step, and count missing values; each column is one if the table is wide."""
    grid = Frequency.parse(alias) if alias else None
    series = []
    for part, one in filled(parts, grid, max_rows, collector):
        _count_missing(part, roles, layout, collector)
        series.append(one)
    return list(_columns_apart(series[0], roles.targets, grid)) if layout.wide else series


def _count_missing(part: Rows, roles: Roles, layout: Layout, collector: FindingsCollector) -> None:
    missing = np.isnan(part.values)
    if layout.wide:
        inside = _spans(~missing)
        collector.add("padding", int((~inside[:, inside.any(axis=0)]).sum()))
        missing &= inside
    for number, name in enumerate(roles.values):
        rows = np.flatnonzero(missing[:, number])
        if len(rows):
            kind = "missing" if number < len(roles.targets) else "missing_covariate"
            example = f"first {part.place(int(rows[0]))}"
            if layout.wide:
                collector.add(kind, len(rows), f"{example}, column {shortened(name)}", layout.targets[0])
            else:
                collector.add(kind, len(rows), example, name)


def _spans(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the rows from each column's first to its last value, [rows, columns]."""
    begun = np.logical_or.accumulate(seen, axis=0)
    lasts = np.logical_or.accumulate(seen[::-1], axis=0)[::-1]
    return begun & lasts


def _columns_apart(series: Series, ids: tuple[str, ...], grid: Frequency | None) -> Iterator[Series]:
    """Yield each column as a separate series, from its first to its last value."""
    stamps = None if grid is None else series.times(grid)
    for number, unique_id in enumerate(ids):
        seen = np.flatnonzero(~np.isnan(series.values[:, number]))
        first, end = (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 0)
        start_ns = int(stamps[first]) if stamps is not None else None
        yield Series(unique_id, start_ns, series.values[first:end, number : number + 1].copy())


def _is_observed(series: Series, roles: Roles, collector: FindingsCollector) -> bool:
    """Return whether a series has a value of a target; count targets that never vary or have no value."""
    name = shortened(series.unique_id)
    seen = ~np.isnan(series.values)
    if not seen[:, : len(roles.targets)].any():
        collector.add("all_missing", 1, f"such as {name}")
        return False
    for number, target in enumerate(roles.targets):
        values = series.values[seen[:, number], number]
        if not len(values):
            collector.add("unobserved", 1, f"such as {name}", target)
        elif len(values) > 1 and (values == values[0]).all():
            collector.add("constant", 1, f"such as {name}", target)
    return True
