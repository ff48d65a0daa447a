"""Checks of a request against its model: the resulting rows, and the field that an error names."""

import numpy as np
import pytest
from support.described import described, described_classes, region

from statecast.service.engine.request import Opening, Request
from statecast.service.engine.request_checks import check_categories, check_forecast, rows_of
from statecast.service.errors import InvalidRequest

ONE, TWO = described(), described(targets=("a", "b"), covariates=("price", "holiday"))
LETTERS = described_classes("a", "b", "c")


def request(*values: float, **fields: object) -> Request:
    for name in ("covariates", "future_covariates"):
        if name in fields:
            fields[name] = np.array(fields[name], np.float64)
    return Request("s", values=np.array(values, np.float64), **fields)  # type: ignore[arg-type]


def test_values_become_rows() -> None:
    assert rows_of(ONE, request(1.0), 9).tolist() == [[1.0]]
    assert rows_of(ONE, request(1.0, 2.0), 9).tolist() == [[1.0], [2.0]]
    assert rows_of(ONE, request(), 9).shape == (0, 1)
    assert rows_of(LETTERS, request(0.0, np.nan, 2.0), 9).shape == (3, 1)


def test_covariates_stand_behind_the_targets() -> None:
    rows = rows_of(TWO, request(1, 2, 3, 4, covariates=[5, 6, 7, 8]), 9)
    assert rows.tolist() == [[1, 2, 5, 6], [3, 4, 7, 8]]
    np.testing.assert_array_equal(rows_of(TWO, request(1, 2), 9), [[1, 2, np.nan, np.nan]])


@pytest.mark.parametrize(
    ("model", "asked", "field", "problem"),
    [
        (ONE, request(1, 2, 3), "observations.values", "3 time steps are more than the 2"),
        (ONE, request(1, target_count=2), "observations.targets", "2 values a time step, but m version 1 has 1: y"),
        (TWO, request(1, 2, 3), "observations.values", r"3 values .* whole time steps of 2 targets \(a, b\)"),
        (TWO, request(1, 2, target_count=1), "observations.targets", "1 values a time step"),
        (ONE, request(1, covariates=[2]), "observations.covariates", "has no covariates"),
        (TWO, request(1, 2, covariates=[3]), "observations.covariates", r"1 values .* \(price, holiday\)"),
        (TWO, request(covariates=[3, 4]), "observations.covariates", "2 values"),
        (LETTERS, request(0, 3), r"observations.values\[1\]", "3 is not .* 0 to 2"),
        (LETTERS, request(0.5), r"observations.values\[0\]", "0.5 is not"),
        (LETTERS, request(-1), r"observations.values\[0\]", "-1 is not"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_field(model: object, asked: Request, field: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}: .*{problem}"):
        rows_of(model, asked, 2)  # type: ignore[arg-type]


def test_a_forecast_that_the_model_can_make_passes() -> None:
    check_forecast(ONE, request(horizon=6, quantile_levels=(0.9, 0.1, 0.3)))
    check_forecast(TWO, request(horizon=2, future_covariates=[1, 2, 3, 4]))
    check_forecast(LETTERS, request(horizon=3))


@pytest.mark.parametrize(
    ("model", "asked", "field", "problem"),
    [
        (ONE, request(horizon=7), "horizon", "7 is beyond the 6 steps that m version 1 forecasts"),
        (ONE, request(quantile_levels=(0.5, 0.05)), r"quantile_levels\[1\]", "0.05 is outside 0.1..0.9"),
        (ONE, request(quantile_levels=(float("nan"),)), r"quantile_levels\[0\]", "nan is outside"),
        (LETTERS, request(quantile_levels=(0.5,)), "quantile_levels", "no quantiles"),
        (ONE, request(horizon=1, future_covariates=[1]), "future_covariates", "has no covariates"),
        (TWO, request(horizon=2, future_covariates=[1, 2]), "future_covariates", "2 values .* 2 time steps"),
    ],
)
def test_a_forecast_that_it_cannot_make_is_refused_by_field(
    model: object, asked: Request, field: str, problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}: .*{problem}"):
        check_forecast(model, asked)  # type: ignore[arg-type]


def test_categories_may_have_any_value_but_no_other_name() -> None:
    model = described(categories=region("north", "south"))
    check_categories(model, Opening(categories={"region": "elsewhere"}))
    check_categories(ONE, Opening())
    with pytest.raises(InvalidRequest, match=r"^open.categories\['shop'\]: .* it has: region"):
        check_categories(model, Opening(categories={"shop": "a"}))
    with pytest.raises(InvalidRequest, match=r"^requests\[2\].open.categories\['shop'\]: .* it has none"):
        check_categories(ONE, Opening(categories={"shop": "a"}, where="requests[2].open"))
