"""Numbers of callers become arrays, or an error that names the field and the place."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from statecast.client import InvalidArgument
from statecast.client._arrays import covariate_rows, numbers
from statecast.v1.limits import MAX_MAGNITUDE

NAN = np.nan


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, 1.0),
        (True, 1.0),
        (Decimal("1.5"), 1.5),
        ([1, None, 2.5], [1.0, NAN, 2.5]),
        ([[1, 2], [None, 4]], [[1.0, 2.0], [NAN, 4.0]]),
        (np.array([1.5], np.float16), [1.5]),
        (np.array([1, None], object), [1.0, NAN]),
        (np.ma.array([1, 2], mask=[True, False]), [NAN, 2.0]),
        ([], []),
        (np.empty((0, 3)), np.empty((0, 3))),
        ([MAX_MAGNITUDE, -MAX_MAGNITUDE], [MAX_MAGNITUDE, -MAX_MAGNITUDE]),
    ],
)
def test_numbers_come_in_many_forms(given: Any, expected: Any) -> None:
    array = numbers("values", given, "targets")
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("hello", "values: not numbers"),
        (np.array(["2024-01-01"], "datetime64[D]"), r"values: not numbers, but of type datetime64\[D\]"),
        ([1 + 2j], "values: not numbers"),
        ([[1], [1, 2]], "values: not numbers"),
        (np.zeros((1, 1, 1)), r"values: expected \[time\] or \[time, targets\], got 3 dimensions"),
        (np.empty((2, 0)), "values: 2 time steps of no values"),
        ([0.0, np.inf], r"values\[1\]: inf is not allowed: at most 1e\+30 in magnitude, or NaN"),
        ([[0.0, 1.0], [-1e31, 0.0]], r"values\[2\]: -1e\+31 is not allowed"),
        (10**400, "values: not numbers"),
    ],
)
def test_other_things_are_refused_by_name(given: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        numbers("values", given, "targets")
    assert caught.value.field.startswith("values")


@pytest.mark.parametrize(
    ("given", "rows", "is_one_row", "expected"),
    [
        ([1, 2, 3], 3, False, [[1], [2], [3]]),
        ([1, 2, 3], 1, True, [[1, 2, 3]]),
        (4.0, 1, True, [[4]]),
        ([[1, 2], [3, 4]], 2, False, [[1, 2], [3, 4]]),
    ],
)
def test_covariates_have_a_row_for_each_step(given: Any, rows: int, is_one_row: bool, expected: Any) -> None:
    np.testing.assert_array_equal(covariate_rows("covariates", given, rows, "values", is_one_row), expected)


def test_another_number_of_rows_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="covariates: expected a row for each of the 2 values, got 3"):
        covariate_rows("covariates", [1, 2, 3], 2, "values")
