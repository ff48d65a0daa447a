"""Times are integers inside: nanoseconds since the epoch, UTC."""

from datetime import UTC, datetime

NANOSECONDS = 1_000_000_000


def iso(time_ns: int) -> str:
    """The time as people write it, for messages."""
    seconds, nanoseconds = divmod(time_ns, NANOSECONDS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}{f'.{nanoseconds:09d}'.rstrip('0') if nanoseconds else ''}Z"
