"""Times as numbers that count from 1970."""

from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ..zones import SECOND_NS
from .columns import cast, is_text, wrong

UNITS = {"epoch_s": SECOND_NS, "epoch_ms": 10**6, "epoch_us": 10**3, "epoch_ns": 1}
# From September 2001 to May 2033 no unit is taken for another, nor for digits such as 2024013118...
_RECOGNISED = (1_000_000_000, 2_000_000_000)
# ... but all seconds of a column may also be digits such as 1512010110, the first of December 2015.
_DIGITS = r"^\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])([01]\d|2[0-3])[0-5]\d$"
_MICROSECOND_NS = 1000


def recognised_unit(column: Any) -> str | None:
    """The unit in which every number of a column is a time of our days; None if there is none.

    Args:
        column: Texts, whole numbers or floating ones, without a missing value.
    """
    try:
        values = pc.cast(_trimmed(column), pa.float64(), safe=False).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    for unit, ns in UNITS.items():
        least, end = (seconds * (SECOND_NS // ns) for seconds in _RECOGNISED)
        if len(values) and ((values >= least) & (values < end)).all():
            return None if unit == "epoch_s" and _are_digits(column) else unit
    return None


def instants(name: str, column: Any, unit: str, earliest_ns: int, latest_ns: int) -> NDArray[np.int64]:
    """Returns the instants, in nanoseconds, [rows]; fractions to a microsecond.

    Args:
        name: The column's name.
        column: Texts or numbers, without a missing value.
        unit: A key of `UNITS`.
        earliest_ns: The earliest time that may be.
        latest_ns: The latest.

    Raises:
        DataError: A value is no number, or outside.
    """
    ns, given = UNITS[unit], _trimmed(column)
    expected = f"a time as {unit}, from {_date(earliest_ns)} to {_date(latest_ns)}"
    try:
        values: NDArray[Any] = pc.cast(given, pa.int64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = cast(name, given, pa.float64(), expected).to_numpy()
    # The bounds in whole units, since a product may be beyond 64 bits.
    outside = ~((values >= -(-earliest_ns // ns)) & (values <= latest_ns // ns))
    if outside.any():
        raise wrong(name, column, int(outside.argmax()), expected)
    # A floating number of seconds tells no nanoseconds.
    if values.dtype != np.int64:
        grain = max(1, ns // _MICROSECOND_NS)
        values, ns = np.rint(values * grain).astype(np.int64), ns // grain
    return (values * ns).astype(np.int64)


def _are_digits(column: Any) -> bool:
    return bool(pc.all(pc.match_substring_regex(pc.cast(_trimmed(column), pa.string()), _DIGITS)).as_py())


def _trimmed(column: Any) -> Any:
    return pc.utf8_trim_whitespace(column) if is_text(column) else column


def _date(time_ns: int) -> str:
    return str(np.datetime64(time_ns, "ns").astype("datetime64[D]"))
