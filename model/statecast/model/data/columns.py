"""Convert the columns of a file to numbers and texts."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from statecast.v1.limits import MAX_MAGNITUDE

from ..errors import DataError

# Texts that pandas, R, SQL and spreadsheets write for missing values, in lower case.
MISSING = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nat")
_MOST_LISTED = 20
_LONGEST_SHOWN = 60


def listed(names: Sequence[str]) -> str:
    """Return names as one text for a message, shortened if there are many."""
    shown = ", ".join(map(shortened, names[:_MOST_LISTED]))
    return f"{shown} and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else shown


def shortened(value: object) -> str:
    """Return a value of a file for a message, shortened if long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def other_delimiter(header: str) -> str:
    """Return a hint at the right delimiter for a header read as a single column; empty if none is evident."""
    sign = next((sign for sign in ";\t|" if sign in header), "")
    return f"; if columns are separated by {sign!r}, name it as the delimiter" if sign else ""


def wrong(name: str, column: Any, row: int, expected: str) -> DataError:
    """Return the error for an unexpected value in a row of a column, counted from 0."""
    value = column[row]
    try:
        shown = shortened(value.as_py())
    except (ValueError, OverflowError):  # a time beyond what Python can hold
        shown = str(value.cast(pa.int64())) + f" in {value.type}"
    return DataError(f"column {name!r}, row {row + 1}: {shown} is not {expected}")


def plain(column: Any) -> Any:
    """Return a column without dictionary encoding."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def is_text(column: Any) -> bool:
    """Return whether a plain column holds texts."""
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def cast(name: str, column: Any, to: Any, expected: str) -> Any:
    """Convert a column to another Arrow type.

    Raises:
        DataError: The type or a value cannot be converted; the message names the first such row.
    """
    # Large integers may lose digits as floats, but times must not wrap around.
    safe = not pa.types.is_floating(to)

    def converts(rows: int) -> bool:
        try:
            pc.cast(column.slice(0, rows), to, safe=safe)
        except pa.ArrowInvalid:
            return False
        return True

    try:
        return pc.cast(column, to, safe=safe)
    except pa.ArrowNotImplementedError as error:
        raise DataError(f"column {name!r}: {column.type} is not {expected}") from error
    except pa.ArrowInvalid as error:
        counts = range(1, len(column) + 1)
        row = bisect_left(counts, True, key=lambda rows: not converts(rows))
        raise wrong(name, column, row, expected) from error


def numbers(name: str, column: Any, decimal: str = ".", thousands: str = "") -> NDArray[np.float64]:
    """Return a column of numbers, NaN where missing, [rows].

    Args:
        name: The column's name.
        column: Numbers, Booleans, or texts of either.
        decimal: The decimal point of texts.
        thousands: The thousands separator of texts; empty for none.

    Raises:
        DataError: A value is not a number, is infinite, or is above 1e30 in magnitude.
    """
    column = plain(column)
    given, expected = column, "a number"
    if is_text(column):
        column = pc.utf8_trim_whitespace(column)
        absent = pc.is_in(pc.utf8_lower(column), value_set=pa.array(MISSING, column.type))
        column = _truths(pc.if_else(absent, None, column))
        if pc.any(pc.match_substring(given, ",")).as_py():
            expected = "a number; if commas are decimal points or group digits, name them (decimal, thousands)"
        if (decimal, thousands) != (".", "") and is_text(column):
            column = _plainly_written(name, column, decimal, thousands)
    elif pa.types.is_temporal(column.type):
        raise DataError(f"column {name!r}: {column.type} is not a number")
    values: NDArray[np.float64] = cast(name, column, pa.float64(), expected).fill_null(np.nan).to_numpy()
    beyond = np.abs(values) > MAX_MAGNITUDE
    if beyond.any():
        row = int(beyond.argmax())
        expected = "a finite number" if np.isinf(values[row]) else f"at most {MAX_MAGNITUDE:g} in magnitude"
        raise wrong(name, given, row, expected)
    return values


def _plainly_written(name: str, column: Any, decimal: str, thousands: str) -> Any:
    """Return texts of numbers with a point as decimal point and without thousands separators."""
    point, group = re.escape(decimal), re.escape(thousands)
    whole = rf"(\d+|\d{{1,3}}({group}\d{{3}})+)" if thousands else r"\d+"
    pattern = rf"^[+-]?({whole}({point}\d*)?|{point}\d+)(e[+-]?\d+)?$"
    wrongly = pc.invert(pc.fill_null(pc.match_substring_regex(column, pattern, ignore_case=True), True)).to_numpy()
    if wrongly.any():
        signs = f"the decimal point {decimal!r}" + (f" and thousands apart by {thousands!r}" if thousands else "")
        raise wrong(name, column, int(wrongly.argmax()), f"a number with {signs}")
    if thousands:
        column = pc.replace_substring(column, thousands, "")
    return pc.replace_substring(column, decimal, ".")


def _truths(column: Any) -> Any:
    """Convert texts that are all true or false to Booleans; return other texts unchanged."""
    lower = pc.utf8_lower(column)
    are_truths = pc.is_in(lower, value_set=pa.array(("true", "false"), lower.type))
    if pc.all(pc.or_(are_truths, pc.is_null(lower))).as_py() and pc.any(are_truths).as_py():
        return pc.equal(lower, "true")
    return column


def texts(name: str, column: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Encode a column of ids or categories as numbers of distinct texts, in order of first appearance.

    Returns:
        The number of each row's text, [rows], and the texts; a missing text is empty.

    Raises:
        DataError: The column cannot be written as text.
    """
    column = plain(column)
    if pa.types.is_floating(column.type):
        column = _whole(column)
    if pa.types.is_boolean(column.type):  # as pandas writes them into a CSV file
        column = pc.if_else(column, "True", "False")
    if not is_text(column):
        column = cast(name, column, pa.string(), "text")
    encoded = column.fill_null("").dictionary_encode().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], encoded.type)
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _whole(column: Any) -> Any:
    """Convert floats back to integers if all are whole: columns with missing integers are stored as floats."""
    try:
        return pc.cast(column, pa.int64())
    except pa.ArrowInvalid:
        return column
