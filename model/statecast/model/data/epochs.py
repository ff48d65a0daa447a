"""Times as numbers of seconds or smaller units since 1970."""

from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ..zones import SECOND_NS
from .columns import cast, is_text, wrong

UNITS = {"epoch_s": SECOND_NS, "epoch_ms": 10**6, "epoch_us": 10**3, "epoch_ns": 1}
# Between September 2001 and May 2033, units cannot be confused with each other, nor with digits such as 2024013118.
_RECOGNISED = (1_000_000_000, 2_000_000_000)
# Digits such as 1512010110, the first of December 2015, could be seconds, though.
_DIGITS = r"^\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])([01]\d|2[0-3])[0-5]\d$"
_MICROSECOND_NS = 1000


def recognised_unit(column: Any) -> str | None:
    """Return the unit in which every number of a column is a time from 2001 to 2033; None without one.

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
    """Return the instants in nanoseconds, [rows]; fractional numbers are rounded to microseconds.

    Args:
        name: The column's name.
        column: Texts or numbers, without a missing value.
        unit: A key of `UNITS`.
        earliest_ns: The earliest time allowed.
        latest_ns: The latest time allowed.

    Raises:
        DataError: A value is not a number or is out of range.
    """
    ns, given = UNITS[unit], _trimmed(column)
    expected = f"a time as {unit}, from {_date(earliest_ns)} to {_date(latest_ns)}"
    try:
        values: NDArray[Any] = pc.cast(given, pa.int64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = cast(name, given, pa.float64(), expected).to_numpy()
    # Compared in whole units, since nanoseconds may exceed 64 bits.
    outside = ~((values >= -(-earliest_ns // ns)) & (values <= latest_ns // ns))
    if outside.any():
        raise wrong(name, column, int(outside.argmax()), expected)
    # A floating-point number of seconds is not precise to nanoseconds.
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
