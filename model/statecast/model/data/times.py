"""Read times from columns and texts, as whole nanoseconds since 1970: instants or wall clock times (`zones`)."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ..errors import DataError
from ..frequency import FIRST_YEAR, LAST_YEAR
from ..zones import DAY_NS, MINUTE_NS, SECOND_NS, UTC, Zone
from .columns import cast, is_text, plain, texts, wrong
from .epochs import UNITS, instants, recognised_unit
from .findings import FindingsCollector

# Excludes counters, seconds since 1970 and words such as "now", which pandas accepts as times.
_ISO = re.compile(r"\s*\d{4}(\s*|\D.*|\d{4}([T ].*)?)")
_ZONE = re.compile(r"[T ]\d{2}.*?(Z|[+-]\d{2}(:?\d{2})?)\s*$")
_EARLIEST_NS = pd.Timestamp(FIRST_YEAR, 1, 1).as_unit("ns").value
_LATEST_NS = pd.Timestamp(LAST_YEAR + 1, 1, 1).as_unit("ns").value - 1
_EXPECTED = f"a time in ISO 8601 such as 2024-01-31 18:00, from {FIRST_YEAR} to {LAST_YEAR}"

Times = NDArray[np.int64]


@dataclass(frozen=True)
class Written:
    """The time zone in which a column of times is written.

    Attributes:
        is_zoned: Whether its times have a zone or an offset.
        offset_ns: The offset of the written times from UTC; None if it changes or is not known.
    """

    is_zoned: bool = False
    offset_ns: int | None = None


class TimeColumn(ABC):
    """A column of times, which can be read as instants or as wall clock times.

    Attributes:
        is_on_wall_clock: Whether `order` holds wall clock times.
    """

    is_on_wall_clock: bool

    @property
    @abstractmethod
    def written(self) -> Written:
        """The time zone in which the column is written."""

    @property
    @abstractmethod
    def order(self) -> Times:
        """The times as in the file, instants or wall clock times, int64 [rows]."""

    @abstractmethod
    def instants(self, series: Times, collector: FindingsCollector) -> Times:
        """Return the instants, int64 [rows], for steps shorter than a day; `series` numbers each row's series."""

    @abstractmethod
    def walls(self, collector: FindingsCollector) -> Times:
        """Return wall clock times, int64 [rows], for steps of a day or longer."""


@dataclass(frozen=True)
class LocalTimes(TimeColumn):
    """Times without an offset from UTC, as the clock of a zone showed them.

    Attributes:
        name: The column's name.
        shown: The wall clock times, int64 [rows].
        zone: The zone.
    """

    name: str
    shown: Times
    zone: Zone
    is_on_wall_clock = True

    @property
    def written(self) -> Written:
        """No zone and no offset."""
        return Written()

    @property
    def order(self) -> Times:
        """The wall clock times."""
        return self.shown

    def walls(self, collector: FindingsCollector) -> Times:
        """Return the wall clock times."""
        return self.shown

    def instants(self, series: Times, collector: FindingsCollector) -> Times:
        """Return the instants; if the clock shows a time twice, the order of the rows decides between the two.

        Raises:
            DataError: The clock never showed a time.
        """
        if self.zone.is_fixed:
            collector.add("converted", len(self.shown) if self.zone.offset_ns else 0)
            return self.shown - (self.zone.offset_ns or 0)
        shown, where = np.unique(self.shown, return_inverse=True)
        skipped = np.array([self.zone.is_skipped(time) for time in shown.tolist()])
        if skipped.any():
            raise self._skipped(int(skipped[where].argmax()))
        first = self.zone.instants(shown)[where]
        second = np.array([self.zone.second_instant(time) for time in shown.tolist()], np.int64)[where]
        collector.add("converted", len(first))
        is_second = _second_of_two(self.shown, series, first != second)
        collector.add("repeated_hour", int(is_second.sum()))
        return np.where(is_second, second, first)

    def _skipped(self, row: int) -> DataError:
        time = int(self.shown[row])
        standard = offset_text(self.zone.offset_at(self.zone.instant(time) - SECOND_NS))
        return DataError(
            f"column {self.name!r}, row {row + 1}: the clocks of {self.zone.name} skip {iso(time)}; if the times keep "
            f"standard time all year, name its offset: --time-zone {standard}"
        )


def _second_of_two(shown: Times, series: Times, is_repeated: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the rows whose time is the second one of a time that the clock shows twice.

    Such a row has a partner of the same series and time. Any rows of the series between the two also have times that
    the clock shows twice.

    Args:
        shown: The wall clock times, int64 [rows].
        series: The number of each row's series, int64 [rows].
        is_repeated: Whether the clock shows each time twice, bool [rows].

    Returns:
        Whether each row is such a second one, bool [rows].
    """
    rows = np.arange(len(shown))
    by_series = np.argsort(series, kind="stable")
    others = np.empty(len(shown), np.int64)
    others[by_series] = np.cumsum(~is_repeated[by_series])
    order = np.lexsort((rows, shown, series))
    before, after = order[:-1], order[1:]
    pair = (shown[before] == shown[after]) & (series[before] == series[after]) & is_repeated[after]
    pair &= others[before] == others[after]
    is_second = np.zeros(len(shown), bool)
    # If the newest row comes first in the file, the first row of the two is the later one.
    descends = np.zeros(len(shown), bool)
    for number in np.unique(series[after[pair]]):
        own = shown[series == number]
        descends[series == number] = own[-1] < own[0]
    is_second[np.where(descends[after[pair]], before[pair], after[pair])] = True
    return is_second


@dataclass(frozen=True)
class ZonedTimes(TimeColumn):
    """Times with a zone or an offset from UTC.

    Attributes:
        utc: The instants, int64 [rows].
        zone: The zone for wall clock times; None for the times as written in the column.
        offsets: The written times minus the instants, int64 [rows].
        converted: How many times are not written in UTC.
    """

    utc: Times
    zone: Zone | None
    offsets: Times
    converted: int
    is_on_wall_clock = False

    @property
    def written(self) -> Written:
        """The time zone in which the column is written; a zone that the caller named takes precedence."""
        if self.zone is not None:
            return Written(True, self.zone.offset_ns)
        constant = bool(len(self.offsets)) and bool((self.offsets == self.offsets[0]).all())
        return Written(True, int(self.offsets[0]) if constant else None)

    @property
    def order(self) -> Times:
        """The instants."""
        return self.utc

    def instants(self, series: Times, collector: FindingsCollector) -> Times:
        """Return the instants."""
        collector.add("converted", self.converted)
        return self.utc

    def walls(self, collector: FindingsCollector) -> Times:
        """Return the wall clock times in the zone, or the times as written if there is no zone."""
        walls = self.utc + self.offsets if self.zone is None else self.zone.walls(self.utc)
        moved = walls - self.utc
        if moved.any():
            least, most = int(moved.min()), int(moved.max())
            where = f"in {self.zone.name}" if self.zone and self.zone.name else ""
            changes = f"from {offset_text(least)} to {offset_text(most)} with the season"
            collector.add("local", len(walls), f"{where}, {changes}".strip(", ") if least < most else where)
        clock = walls[0] % DAY_NS if len(walls) else 0
        if self.zone is None and clock and (walls % DAY_NS == clock).all():
            collector.add("shifted", len(walls), f"at {iso(int(clock))[11:16]}")
        return walls


def iso(time_ns: int) -> str:
    """Return a time in ISO 8601, for messages."""
    return pd.Timestamp(time_ns, unit="ns").isoformat()


def offset_text(offset_ns: int) -> str:
    """Return an offset from UTC such as +01:00."""
    minutes = abs(offset_ns) // MINUTE_NS
    return f"{'-' if offset_ns < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def moment(value: str | int | datetime, zone: Zone = UTC, *, on_wall_clock: bool = False) -> int:
    """Return a time in nanoseconds.

    Args:
        value: ISO 8601, a datetime, or the nanoseconds themselves.
        zone: The zone of a time that has none.
        on_wall_clock: Whether to return the wall clock time in the zone, instead of the instant.

    Raises:
        DataError: The value is not a time in the supported range.
    """
    if isinstance(value, int):
        return value
    try:
        if isinstance(value, str) and not _ISO.fullmatch(value):
            raise ValueError(value)
        time = pd.Timestamp(value)
        shown = int(time.tz_localize(None).as_unit("ns").value)
        if time.tzinfo is None:
            return shown if on_wall_clock else zone.instant(shown)
        instant = int(time.tz_convert("UTC").as_unit("ns").value)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{str(value)!r} is not {_EXPECTED}") from error
    if not on_wall_clock:
        return instant
    return shown if zone == UTC else zone.wall(instant)


def times(
    name: str,
    column: Any,
    written: str | None = None,
    zone: Zone | None = None,
    collector: FindingsCollector | None = None,
) -> TimeColumn:
    """Return a column of times.

    Args:
        name: The column's name.
        column: Texts, dates, timestamps or numbers: years, days such as 20240131, or times since 1970.
        written: The format of texts, as for `strptime`, or a unit of `epochs`; None for ISO 8601 or recognisable
            times since 1970.
        zone: The zone of times that name none, and of the wall clock for the others; None if unknown.
        collector: Counts times since 1970 that were recognised.

    Raises:
        DataError: A value is missing or not a time, or only some times have a time zone.
        TimeZoneError: The time zone of the column's type is unknown.
    """
    if written is not None and "%Z" in written:
        raise DataError(
            f"time_format {written!r}: %Z names a zone ambiguously; name it by --time-zone, or write offsets, %z"
        )
    if written is not None and written.startswith("epoch") and written not in UNITS:
        raise DataError(f"time_format: {written!r} is none of {', '.join(UNITS)}")
    column = plain(column)
    if column.null_count:
        raise wrong(name, column, int(np.argmax(column.is_null().to_numpy())), _EXPECTED)
    if unit := written if written in UNITS else recognised_unit(column) if written is None else None:
        values = instants(name, column, unit, _EARLIEST_NS, _LATEST_NS)
        if collector and written is None:
            collector.add("epoch", len(values), f"{unit}: {column[0]} is {iso(int(values[0]))}")
        return ZonedTimes(values, zone, np.zeros(len(values), np.int64), 0)
    if pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    return _from_text(name, column, written, zone) if is_text(column) else _from_stamps(name, column, zone)


def _from_stamps(name: str, column: Any, zone: Zone | None) -> TimeColumn:
    own = getattr(column.type, "tz", None)
    values = cast(name, column, pa.timestamp("ns", tz=own), _EXPECTED).cast(pa.int64()).to_numpy()
    _check_range(name, column, values)
    if own is None:
        return LocalTimes(name, values, zone or UTC)
    written = Zone.parse(own)
    return ZonedTimes(values, zone or written, np.zeros(len(values), np.int64), 0 if written == UTC else len(values))


def _from_text(name: str, column: Any, written: str | None, zone: Zone | None) -> TimeColumn:
    # Series of a panel mostly share their times, so each distinct time is parsed once.
    numbers, distinct = texts(name, column)
    parsed = _parse(distinct, written, name)
    bad = np.asarray(parsed.isna())
    if written is None:
        bad |= [not _ISO.fullmatch(text) for text in distinct]
    if bad.any():
        row = int(bad[numbers].argmax())
        raise wrong(name, column, row, _EXPECTED if written is None else f"a time written as {written!r}")
    values = parsed.asi8[numbers]
    _check_range(name, column, values)
    if written is not None:
        zoned = np.full(len(distinct), "%z" in written)
    else:
        zoned = np.array([_ZONE.search(text) is not None for text in distinct], bool)
    if not zoned.any():
        return LocalTimes(name, values, zone or UTC)
    if not zoned.all():
        row = int((~zoned)[numbers].argmax())
        raise wrong(name, column, row, "a time with a time zone, while others have one")
    offsets = np.array([_offset_of(text, written) for text in distinct], np.int64)
    return ZonedTimes(values, zone, offsets[numbers], int((offsets[numbers] != 0).sum()))


def _parse(distinct: list[str], written: str | None, name: str) -> pd.DatetimeIndex:
    try:
        stamps = pd.to_datetime(
            pd.Series(distinct, dtype=object), format=written or "ISO8601", utc=True, errors="coerce"
        )
    except ValueError as error:
        raise DataError(f"column {name!r}: {written!r} does not describe times: {error}") from error
    return pd.DatetimeIndex(stamps).as_unit("ns")


def _offset_of(text: str, written: str | None) -> int:
    """Return the offset from UTC that a text names, in nanoseconds."""
    if written is not None:
        offset = pd.to_datetime(text, format=written).utcoffset()
        return 0 if offset is None else round(offset.total_seconds()) * SECOND_NS
    match = _ZONE.search(text)
    name = match[1] if match else "Z"
    return Zone.parse(name).offset_ns or 0


def _check_range(name: str, column: Any, values: Times) -> None:
    outside = (values < _EARLIEST_NS) | (values > _LATEST_NS)
    if outside.any():
        raise wrong(name, column, int(outside.argmax()), _EXPECTED)
