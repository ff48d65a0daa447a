"""Times are integers: nanoseconds since the epoch, UTC."""

from datetime import UTC as UTC_OF_PYTHON
from datetime import datetime

from statecast.model import UTC, Zone

NANOSECONDS = 1_000_000_000


def iso(time_ns: int, zone: Zone = UTC) -> str:
    """Format the instant in ISO 8601, in the local time of a zone."""
    offset = zone.offset_at(time_ns) // NANOSECONDS
    seconds, nanoseconds = divmod(time_ns, NANOSECONDS)
    text = datetime.fromtimestamp(seconds + offset, UTC_OF_PYTHON).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}{f'.{nanoseconds:09d}'.rstrip('0') if nanoseconds else ''}{_offset(offset, zone)}"


def _offset(seconds: int, zone: Zone) -> str:
    if zone == UTC:
        return "Z"
    minutes, rest = divmod(abs(seconds), 60)
    sign = "-" if seconds < 0 else "+"
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}{f':{rest:02}' if rest else ''}"
