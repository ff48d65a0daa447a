"""Time zones: convert instants to wall clock times and back.

Times are integer nanoseconds since 1970. Instants are in UTC. Wall clock times count what the clock shows as if it
showed UTC. So every day has 24 hours, and steps of days lie on a grid.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
from numpy.typing import NDArray

from .errors import TimeZoneError

DAY_NS = 86_400_000_000_000
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
LONGEST_GAP_NS = 4 * 3600 * SECOND_NS
"""The longest time by which a clock was ever put forward, apart from whole days at the date line."""
LONGEST_NAME = 64
_EPOCH = datetime(1970, 1, 1)
_FIXED = re.compile(r"([+-])(\d{2}):?(\d{2})?")
_UTC_NAMES = ("", "UTC", "Z", "Etc/UTC")


@dataclass(frozen=True)
class Zone:
    """A time zone.

    Attributes:
        name: An IANA name, or a fixed offset such as "+05:30"; empty for UTC.
        offset_ns: The offset from UTC if the zone's clocks never change, else None.
    """

    name: str
    offset_ns: int | None
    _info: tzinfo | None = field(repr=False, compare=False)

    @staticmethod
    def parse(name: str) -> "Zone":
        """Find a zone by name.

        Args:
            name: An IANA name such as "Europe/Berlin", a fixed offset such as "+05:30" or "-03", or empty for UTC.

        Raises:
            TimeZoneError: There is no such zone.
        """
        return _parse(name)

    @property
    def is_fixed(self) -> bool:
        """True if the zone's clocks never change."""
        return self.offset_ns is not None

    def wall(self, instant_ns: int, expected_ns: int = 0, every_ns: int = DAY_NS) -> int:
        """Return what the clock shows at an instant.

        Args:
            instant_ns: The instant.
            expected_ns: A time that the clock is expected to show, such as midnight. If the clocks skip it, the hours
                after it count as that time.
            every_ns: The distance between two expected times.
        """
        shown = instant_ns + self.offset_at(instant_ns)
        after = (shown - expected_ns) % every_ns
        if self.is_fixed or not 0 < after <= LONGEST_GAP_NS:
            return shown
        # Libraries place a skipped time differently, but always soon after the change of the clocks.
        return shown - after if _is_skipped(self, shown - after) else shown

    def walls(self, instants_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what the clock shows at many instants, of the same shape; midnights are expected."""
        return self._each(instants_ns, self.wall)

    def instant(self, wall_ns: int) -> int:
        """Return the first instant at which the clock shows a time, or the first one after it if the clock skips it."""
        if self.offset_ns is not None:
            return wall_ns - self.offset_ns
        instant_ns = wall_ns - self._offset_before(wall_ns)
        shown = instant_ns + self.offset_at(instant_ns)
        return instant_ns if shown == wall_ns else self._change_before(instant_ns, shown - wall_ns)

    def instants(self, walls_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first instants at which the clock shows many times, of the same shape; see `instant`."""
        return self._each(walls_ns, self.instant)

    def is_skipped(self, wall_ns: int) -> bool:
        """Return whether the clocks skip a time when they are put forward."""
        instant_ns = self.instant(wall_ns)
        return instant_ns + self.offset_at(instant_ns) != wall_ns

    def second_instant(self, wall_ns: int) -> int:
        """Return the last instant at which the clock shows a time; most times have only one."""
        if self.offset_ns is not None:
            return wall_ns - self.offset_ns
        moment = _moment(wall_ns).replace(tzinfo=self._info, fold=1)
        return wall_ns - _nanoseconds(moment.utcoffset())

    def offset_at(self, instant_ns: int) -> int:
        """Return how far the clock is ahead of UTC at an instant, in nanoseconds."""
        if self.offset_ns is not None or self._info is None:
            return self.offset_ns or 0
        return _nanoseconds(self._info.fromutc(_moment(instant_ns).replace(tzinfo=self._info)).utcoffset())

    def _offset_before(self, wall_ns: int) -> int:
        """Return the offset at the first instant that shows a time; if the clock skips it, that before the change."""
        return _nanoseconds(_moment(wall_ns).replace(tzinfo=self._info).utcoffset())

    def _change_before(self, instant_ns: int, gap_ns: int) -> int:
        """Bisect for the instant at which the clocks change, at most `gap_ns` before `instant_ns`."""
        before, after = (instant_ns - gap_ns) // SECOND_NS, instant_ns // SECOND_NS
        offset = self.offset_at(after * SECOND_NS)
        while after - before > 1:
            middle = (before + after) // 2
            if self.offset_at(middle * SECOND_NS) == offset:
                after = middle
            else:
                before = middle
        return after * SECOND_NS

    def _each(self, times_ns: NDArray[np.int64], convert: Callable[[int], int]) -> NDArray[np.int64]:
        distinct, where = np.unique(times_ns, return_inverse=True)  # series of a panel share most of their times
        converted = np.array([convert(time_ns) for time_ns in distinct.tolist()], np.int64)
        return converted[where].reshape(times_ns.shape)


# Many rows may follow one clock change.
@lru_cache(maxsize=4096)
def _is_skipped(zone: Zone, wall_ns: int) -> bool:
    return zone.is_skipped(wall_ns)


@lru_cache(maxsize=4096)
def _parse(name: str) -> Zone:
    if name in _UTC_NAMES:
        return UTC
    if match := _FIXED.fullmatch(name):
        sign, hours, minutes = match[1], int(match[2]), int(match[3] or 0)
        if hours > 23 or minutes > 59:
            raise TimeZoneError(f"{name!r} is not an offset from UTC: it goes from -23:59 to +23:59")
        offset_ns = int(f"{sign}1") * (60 * hours + minutes) * MINUTE_NS
        return Zone(f"{sign}{hours:02}:{minutes:02}", offset_ns, None) if offset_ns else UTC
    if name not in _names():
        raise TimeZoneError(
            f"{name[:LONGEST_NAME]!r} is not a time zone; {_meant(name)}an IANA name such as 'Europe/Berlin', or a "
            "fixed offset such as '+05:30'"
        )
    return Zone(name, None, ZoneInfo(name))


@lru_cache(maxsize=1024)
def _meant(name: str) -> str:
    """Return a suggestion for a wrong name. It searches few names, because thousands of wrong ones may come."""
    region, _, city = name.rpartition("/")
    alike = _by_initial().get(city[:1].lower(), []) if len(name) <= LONGEST_NAME else []
    alike = [other for other in alike if not region or other.lower().startswith(region.lower())]
    close = [other for other in alike if other.rpartition("/")[2].lower() == city.lower()] or get_close_matches(
        name, [other for other in alike if region and abs(len(other) - len(name)) <= 1], 1
    )
    return f"did you mean {close[0]!r}? Use " if close else "use "


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime", "Factory"})


@lru_cache(maxsize=1)
def _by_initial() -> dict[str, list[str]]:
    """Return the names of zones by the first letter of the place."""
    found: dict[str, list[str]] = {}
    for name in sorted(_names()):
        found.setdefault(name.rpartition("/")[2][0].lower(), []).append(name)
    return found


def _moment(time_ns: int) -> datetime:
    return _EPOCH + timedelta(seconds=time_ns // SECOND_NS)


def _nanoseconds(offset: timedelta | None) -> int:
    return 0 if offset is None else round(offset.total_seconds()) * SECOND_NS


UTC = Zone("", 0, None)
"""Coordinated Universal Time."""
