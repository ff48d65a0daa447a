"""Converts callers' numbers to arrays and checks them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from statecast.v1.limits import MAX_MAGNITUDE

from ._ask import Numbers
from .errors import invalid


def numbers(field: str, given: Any, columns: str) -> NDArray[np.float64]:
    """Convert a number, [time] or [time, columns] to a float64 array of the same shape; NaN where missing.

    Raises:
        InvalidArgument: The shape or type is another, or a value is infinite or above 1e30 in magnitude.
    """
    kind = getattr(getattr(given, "dtype", None), "kind", "O")
    if kind not in "biufO":
        raise invalid(field, f"not numbers, but of type {given.dtype}")
    try:
        if isinstance(given, np.ma.MaskedArray):
            given = np.ma.filled(given.astype(np.float64), np.nan)
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(field, f"not numbers: {error}") from error
    if array.ndim > 2:
        raise invalid(field, f"expected [time] or [time, {columns}], got {array.ndim} dimensions")
    if array.ndim == 2 and not array.size and len(array):
        raise invalid(field, f"{len(array)} time steps of no values")
    wrong = np.flatnonzero(np.abs(array) > MAX_MAGNITUDE)
    if wrong.size:
        at = int(wrong[0])
        problem = f"{array.flat[at]:g} is not allowed: at most {MAX_MAGNITUDE:g} in magnitude, or NaN if missing"
        raise invalid(f"{field}[{at}]", problem)
    return array


def covariate_rows(field: str, given: Numbers, rows: int, what: str, is_one_row: bool = False) -> NDArray[np.float64]:
    """Convert covariates to [rows, covariates]. A flat list is one covariate, or with `is_one_row` the only row.

    Raises:
        InvalidArgument: The values cannot be such an array, or there are not `rows` rows, one for each of `what`.
    """
    array = numbers(field, given, "covariates")
    if array.ndim < 2:
        array = array.reshape((1, -1) if is_one_row else (-1, 1))
    if len(array) != rows:
        raise invalid(field, f"expected a row for each of the {rows} {what}, got {len(array)}")
    return array
