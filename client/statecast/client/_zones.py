"""Time zones by name, as the server knows them."""

import re
import warnings
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from .errors import invalid

_FIXED = re.compile(r"([+-])(\d{2}):?(\d{2})?")
_NAMELESS = ("localtime", "Factory")  # these differ from machine to machine
_UTC_NAMES = ("", "UTC", "Z", "Etc/UTC")


@lru_cache(maxsize=1000)
def zone_info(name: str) -> tzinfo:
    """Return the zone of that name.

    Raises:
        InvalidArgument: No zone has that name, or this machine has no data about it.
    """
    if name in _UTC_NAMES:
        return UTC
    match = _FIXED.fullmatch(name)
    try:
        if match is None:
            return ZoneInfo(name)
        offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
        return timezone(-offset if match[1] == "-" else offset)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        close = get_close_matches(name, available_timezones(), 1)
        meant = f"did you mean {close[0]!r}? Use " if close else "use "
        raise invalid(
            "open.time_zone",
            f"{name!r} is not a time zone that this machine knows; {meant}an IANA name such as 'Europe/Berlin', or a "
            "fixed offset such as '+05:30'. Where a zone is missing, pip install tzdata brings it",
        ) from error


def zone_name(zone: tzinfo | None) -> str:
    """Return a zone's name or fixed offset. Empty if there is no zone, or with a warning if it has neither."""
    if zone is None:
        return ""
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)  # of zoneinfo and of pytz
    if isinstance(name, str) and name not in _NAMELESS:
        return "UTC" if name in _UTC_NAMES else name
    offset = zone.utcoffset(None)
    if offset is None:
        _warn_about(repr(zone))
        return ""
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" if minutes else "UTC"


def is_utc(name: str) -> bool:
    """Return True if a zone's name means UTC or is empty."""
    return name in _UTC_NAMES


def as_datetime(message: Any, zone: str) -> datetime:
    """Convert a Timestamp message to a datetime in the zone, or in UTC if this machine does not know the zone."""
    moment: datetime = message.ToDatetime(UTC)
    try:
        return moment.astimezone(zone_info(zone))
    except ValueError:
        return moment


@lru_cache(maxsize=100)
def _warn_about(zone: str) -> None:
    """Warn, once for each zone."""
    warnings.warn(
        f"the zone {zone} does not tell its name, so days count in UTC; name it, client.session(..., "
        "time_zone='Europe/Berlin')",
        stacklevel=2,
    )
