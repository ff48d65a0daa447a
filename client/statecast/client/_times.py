"""Converts callers' times to instants and checks them: from an index or a list, with a zone or without."""

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._ask import Observations, Time
from ._zones import is_utc, zone_info, zone_name
from .errors import InvalidArgument, invalid

Instants: TypeAlias = NDArray[np.int64]

NANOSECONDS = 1_000_000_000
DAY_NS = 86_400 * NANOSECONDS
NONE: Instants = np.empty(0, np.int64)
_FIELD, _START = "observations.times", "observations.start_time"
# The usual ways to write a date; other texts are row labels.
_DATE_AS_TEXT = re.compile(r"\s*(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3\d{4}|\d{8})([T ].*)?")
_EPOCH = datetime(1970, 1, 1)
_EARLIEST, _LATEST = -9_214_560_000 * NANOSECONDS, 9_214_646_400 * NANOSECONDS
_OUT_OF_RANGE = "is not a time of the years 1678 to 2261"


class Reading(NamedTuple):
    """The zones by which to read times without one.

    Attributes:
        zone: Zone that the session's caller named. If empty, datetime64 is UTC and a datetime is refused.
        other: Zone that the session is known to have. If `zone` is empty and this is not UTC, datetime64 is refused.
    """

    zone: str = ""
    other: str = ""


@dataclass(frozen=True, eq=False)
class KnownTimes:
    """Times that are converted already, as `Observations.times`.

    Attributes:
        instants: Nanoseconds since 1970, int64 [time].
        tz: Zone that the caller's times have; None without one.
    """

    instants: Instants
    tz: tzinfo | None

    def __len__(self) -> int:
        return len(self.instants)

    def __array__(self) -> NDArray[Any]:
        return self.instants.astype("datetime64[ns]")

    def __getitem__(self, row: int) -> datetime:
        return _as_datetime(int(self.instants[row]), self.tz)


@dataclass(frozen=True, eq=False)
class Dated:
    """The times of observations, in nanoseconds since 1970.

    Attributes:
        start: Time of the first row; None if it is not given, or if `times` are.
        times: Time of every row, ascending, int64 [time]; empty if not given.
        zone: Name of the zone of the first time; empty if it has none.
        ahead: Times in the index of the future covariates, ascending; empty if there are none.
    """

    start: int | None = None
    times: Instants = field(default_factory=lambda: NONE)
    zone: str = ""
    ahead: Instants = field(default_factory=lambda: NONE)


UNDATED = Dated()


def dated(observed: Observations, reading: Reading, after: int | None = None) -> Dated:
    """Return the times of observations.

    Args:
        observed: The observations; a Series or DataFrame may have the times in its index.
        reading: The zones by which to read times without one.
        after: Time of the last row that the session took; None if unknown.

    Raises:
        InvalidArgument: A time is missing, not later than the one before it, or contradicts another one.
    """
    if observed.times is not None and observed.start_time is not None:
        raise invalid(_FIELD, "given together with start_time; leave out one of the two")
    given = _times_of(observed)
    if given is None and observed.start_time is None and observed.covariates is observed.future_covariates is None:
        return UNDATED
    start = None if observed.start_time is None else instant(_START, observed.start_time, reading)
    zone = zone_name(getattr(observed.start_time, "tzinfo", None))
    times = NONE
    if given is not None:
        times, zone = _instants(given, reading), zone_name(_tzinfo(given))
        _check_order(_FIELD, times, given, reading)
        if start is not None and times.size and start != times[0]:
            raise invalid(
                _START,
                f"{observed.start_time} is not {given[0]}, the first time in the index of the values; leave start_time "
                "out, or pass the values without their index, as values.to_numpy()",
            )
        start = None if times.size else start
    _check_known(observed, times, start, reading)
    latest = int(times[-1]) if times.size else start if start is not None else after
    return Dated(start, times, zone, _ahead(observed, latest, reading))


def instant(field: str, time: Time, reading: Reading) -> int:
    """Convert a time to nanoseconds since 1970.

    Raises:
        InvalidArgument: It is not a time, is out of range, or has no zone and the caller named none for the session.
    """
    if isinstance(time, np.datetime64):
        return int(_instants_of_array(field, np.array([time]), reading)[0])
    if not isinstance(time, datetime):
        raise invalid(field, f"{time!r} is not a datetime, or a datetime64")
    if time != time:  # pandas' NaT
        raise invalid(field, "NaT is no time; leave such rows out")
    if time.tzinfo is None:
        if not reading.zone:
            raise invalid(
                field,
                f"{time} has no time zone; give it one, as by time.replace(tzinfo=timezone.utc), or name that of the "
                "session, client.session(..., time_zone='Europe/Berlin')",
            )
        time = time.replace(tzinfo=zone_info(reading.zone))
    try:
        seconds = calendar.timegm(time.utctimetuple())
    except OverflowError as error:
        raise invalid(field, f"{time} {_OUT_OF_RANGE}") from error
    nanoseconds = seconds * NANOSECONDS + time.microsecond * 1000 + int(getattr(time, "nanosecond", 0))
    if not _EARLIEST <= nanoseconds < _LATEST:
        raise invalid(field, f"{time} {_OUT_OF_RANGE}")
    return nanoseconds


def _times_of(observed: Observations) -> Any:
    """Return the times of all rows as the caller gave them; None if there are none."""
    if observed.times is None:
        return _times_of_index(_FIELD, observed.values)
    return getattr(observed.times, "array", observed.times)  # of a Series, to index it by position


def _times_of_index(field: str, values: Any) -> Any:
    """Return the times in the index of a Series or DataFrame; None for other values and an index without times."""
    index = getattr(values, "index", None)
    if index is None or callable(index) or not hasattr(index, "dtype"):
        return None
    if getattr(index, "nlevels", 1) > 1:
        if any(level.dtype.kind == "M" for level in index.levels):
            raise invalid(field, "the index has several levels; observe each session's values by themselves")
        return None
    if hasattr(index, "to_timestamp"):  # a PeriodIndex: the starts of its periods count
        return index.to_timestamp()
    if index.dtype.kind == "M":
        return index
    kind = type(index).__name__
    if kind in ("IntervalIndex", "TimedeltaIndex"):
        raise invalid(field, f"the index is a {kind}, which holds no times; give it times, or pass values.to_numpy()")
    if index.dtype.kind not in "OTU":
        return None
    first = next((each for each in index if each is not None), None)
    if isinstance(first, datetime):
        return list(index)
    if isinstance(first, date) or (isinstance(first, str) and _DATE_AS_TEXT.fullmatch(first)):
        raise invalid(
            field,
            f"the index holds {first!r}, which is no time; convert it, as by "
            "values.index = pd.to_datetime(values.index)",
        )
    return None


def _check_order(field: str, times: Instants, given: Sequence[Any], reading: Reading) -> None:
    """Refuse times that do not ascend; the error names the row and the times as the caller gave them."""
    wrong = np.flatnonzero(times[1:] <= times[:-1])
    if not wrong.size:
        return
    row = int(wrong[0]) + 1
    place = f"{field}[{row}]"
    if _tzinfo(given) is None and (_changes(given[row], reading) or _changes(given[row - 1], reading)):
        raise invalid(
            place,
            f"{given[row - 1]} and {given[row]} lie where the clocks of {reading.zone} skip or repeat an hour; say "
            f"which is meant, of a Series as by values.tz_localize({reading.zone!r}, ambiguous='infer'), or name a "
            "fixed offset such as '+01:00' if they keep standard time all year",
        )
    if times[row] == times[row - 1]:
        raise invalid(
            place,
            f"{given[row]} is there twice; keep one row of each time, of a Series as by "
            "values[~values.index.duplicated(keep='last')]",
        )
    raise invalid(
        place,
        f"{given[row]} is earlier than {given[row - 1]}, the time of the row before it; sort the rows by time, of a "
        "Series as by values.sort_index()",
    )


def _changes(time: Any, reading: Reading) -> bool:
    """Return True if the clocks skip or repeat a time without a zone."""
    shown = int(np.datetime64(time, "s").astype(np.int64)) * NANOSECONDS
    info = zone_info(reading.zone)
    return _offset(shown, info) != _offset(shown, info, fold=1)


def _check_known(observed: Observations, times: Instants, start: int | None, reading: Reading) -> None:
    """Refuse covariates whose times in their index are not those of the values."""
    field = "observations.covariates"
    given = _times_of_index(field, observed.covariates)
    if given is None:
        return
    known = _instants(given, reading)
    if not times.size:
        _check_order(field, known, given, reading)
        if start is None or not known.size or known[0] == start:
            return
    elif np.array_equal(known, times):
        return
    raise invalid(
        field,
        "the times in their index are not those of the values; give those, as by covariates.loc[values.index], with "
        "the same time zone in both",
    )


def _ahead(observed: Observations, latest: int | None, reading: Reading) -> Instants:
    """Return the times in the index of future covariates; they must come after the last row."""
    field = "future_covariates"
    given = _times_of_index(field, observed.future_covariates)
    if given is None:
        return NONE
    ahead = _instants(given, reading)
    _check_order(field, ahead, given, reading)
    if latest is not None and ahead.size and ahead[0] <= latest:
        raise invalid(
            field,
            f"they begin at {given[0]}, which is not after the last observation; give those of the steps to forecast",
        )
    return ahead


def _instants(given: Any, reading: Reading) -> Instants:
    """Convert times to nanoseconds since 1970, [time]."""
    if isinstance(given, KnownTimes):
        return given.instants
    kind = getattr(getattr(given, "dtype", None), "kind", "O")
    if getattr(given, "ndim", 1) != 1:
        raise invalid(_FIELD, f"expected [time], got {given.ndim} dimensions")
    if kind == "M" and (isinstance(given, np.ndarray) or hasattr(given, "asi8")):
        if getattr(given, "tz", None) is not None:
            given, reading = given.tz_convert("UTC").tz_localize(None), Reading()
        return _instants_of_array(_FIELD, np.asarray(given), reading)
    if isinstance(given, (str, set, frozenset, dict)) or not hasattr(given, "__len__"):
        raise invalid(_FIELD, f"{given!r} is not a sequence of times")
    given = list(given)
    aware = [isinstance(time, datetime) and time.tzinfo is not None for time in given]
    if any(aware) and not all(aware):
        row = aware.index(not aware[0])
        own, others = ("no time zone", "have one") if aware[0] else ("a time zone", "have none")
        raise invalid(f"{_FIELD}[{row}]", f"{given[row]} has {own}, but the times before it {others}; give each one")
    return np.array([instant(f"{_FIELD}[{row}]", time, reading) for row, time in enumerate(given)], np.int64)


def _instants_of_array(field: str, given: NDArray[np.datetime64], reading: Reading) -> Instants:
    """Convert datetime64 on the clock of a zone to nanoseconds since 1970, [time]."""

    def wrong(row: int, problem: str) -> InvalidArgument:
        return invalid(f"{field}[{row}]" if field == _FIELD else field, problem)

    nanoseconds = given.astype("datetime64[ns]")
    for row in np.flatnonzero(np.isnat(given))[:1]:
        raise wrong(row, "NaT is no time; leave such rows out")
    for row in np.flatnonzero(nanoseconds.astype(given.dtype) != given)[:1]:
        raise wrong(row, f"{given[row]} {_OUT_OF_RANGE}")
    shown = nanoseconds.astype(np.int64)
    for row in np.flatnonzero((shown < _EARLIEST) | (shown >= _LATEST))[:1]:
        raise wrong(row, f"{given[row]} {_OUT_OF_RANGE}")
    if not is_utc(reading.other) and not reading.zone and shown.size:
        raise wrong(
            0,
            f"{given[0]} has no time zone, and the session counts days in {reading.other}; give it one, of a Series as "
            f"by values.tz_localize({reading.other!r}), or name that of the session, client.session(..., time_zone=)",
        )
    if is_utc(reading.zone):
        return shown
    info = zone_info(reading.zone)
    offsets = [_offset(time, info) for time in shown.tolist()]
    for row, (time, offset) in enumerate(zip(shown.tolist(), offsets, strict=True)):
        # A step of days may begin at a skipped midnight; any other skipped time is a mistake.
        if time % DAY_NS and offset < _offset(time, info, fold=1):
            raise wrong(
                row,
                f"{given[row]} is skipped by the clocks of {reading.zone}; name a fixed offset such as '+01:00' if the "
                "times keep standard time all year",
            )
    return shown - np.array(offsets, np.int64)


def _offset(shown: int, info: tzinfo, fold: int = 0) -> int:
    """Return the UTC offset in nanoseconds at a local time; `fold` 1 for the second time that clocks show it."""
    moment = (_EPOCH + timedelta(seconds=shown // NANOSECONDS)).replace(tzinfo=info, fold=fold)
    return round((moment.utcoffset() or timedelta()).total_seconds()) * NANOSECONDS


def _as_datetime(instant: int, zone: tzinfo | None) -> datetime:
    return (_EPOCH + timedelta(microseconds=instant // 1000)).replace(tzinfo=UTC).astimezone(zone or UTC)


def _tzinfo(given: Any) -> tzinfo | None:
    """Return the zone of the first time; None if it has none."""
    zone = getattr(given, "tz", None)
    if zone is None and len(given):
        zone = getattr(given[0], "tzinfo", None)
    return zone if isinstance(zone, tzinfo) else None
