"""A version is a hash chain over time steps: equal histories have equal versions, and others do not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from statecast.service.version import START, Version, chain, chain_value

Rows = arrays(np.float64, st.tuples(st.integers(0, 8), st.integers(1, 3)))


@given(rows=Rows, cut=st.integers(0, 8))
def test_it_does_not_depend_on_how_calls_split_the_rows(rows: NDArray[np.float64], cut: int) -> None:
    whole = chain(START, rows, None)
    assert chain(chain(START, rows[:cut], None), rows[cut:], None) == whole
    assert whole.step == len(rows)


@given(value=st.floats(), version=st.builds(Version, st.integers(0, 2**60), st.integers(0, 2**64 - 1)))
def test_one_value_is_a_row_of_one(value: float, version: Version) -> None:
    assert chain_value(version, value, None) == chain(version, np.array([[value]]), None)
    assert chain_value(version, value, -7) == chain(version, np.array([[value]]), [-7])


def test_each_value_its_order_and_its_time_count() -> None:
    rows = np.array([[1.0], [2.0]])
    versions = [
        chain(START, rows, None),
        chain(START, rows[::-1], None),
        chain(START, rows, [1, 2]),
        chain(START, rows, [1, 3]),
        chain(START, rows.T, None),
        chain(Version(0, 1), rows, None),
        chain(START, np.nextafter(rows, 3), None),
    ]
    assert len(set(versions)) == len(versions)


def test_every_missing_value_is_the_same_and_so_is_every_zero() -> None:
    other_nan = np.array([0xFFF8000000000001], np.uint64).view(np.float64)
    for one, other in ((np.array([np.nan]), other_nan), (np.array([0.0]), np.array([-0.0]))):
        for shape in ((1, 1), (1, 2)):
            assert chain(START, np.resize(one, shape), None) == chain(START, np.resize(other, shape), None)


def test_it_is_the_same_on_every_machine() -> None:
    assert str(chain(START, np.array([[1.0], [np.nan], [-2.5]]), None)) == "step 3, tag 34d59fed8104b086"
