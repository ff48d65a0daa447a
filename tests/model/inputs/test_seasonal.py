"""Past periods that lie on similar days: working days, or weekends."""

import pandas as pd
import pytest
import torch
from torch import Tensor

from statecast.model import ModelConfig
from statecast.model.inputs.seasonal import DaysAlike, look_up

HALF_DAYS = {"horizon": 4, "window": 16, "lags": (2, 3), "multiples": 7, "frequency": "12h"}


def days(calendar: tuple[str, ...] = ("weekend",), **changes: object) -> DaysAlike:
    return DaysAlike(ModelConfig("tiny", "1", calendar=calendar, **{**HALF_DAYS, **changes}))  # type: ignore[arg-type]


def at(*texts: str) -> Tensor:
    return torch.tensor([[pd.Timestamp(text).value for text in texts]])


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("2024-03-01 12:00", [1, 2, 3, 4, 7]),  # a Friday
        ("2024-03-02", [6, 7]),
        ("2024-03-03 12:00", [1, 7]),
        ("2024-03-04", [3, 4, 5, 6, 7]),
        ("2024-03-05 23:59", [1, 4, 5, 6, 7]),
        ("1969-12-27", [6, 7]),
    ],
)
def test_days_alike_are_working_days_or_weekends(text: str, back: list[int]) -> None:
    alike = days().of_steps(at(text), 0)
    assert alike is not None
    assert (1 + alike[0, 0, 0, 0].nonzero().flatten()).tolist() == back


def test_days_are_counted_from_the_step_that_is_forecast() -> None:
    # The latest past period of the third step ahead lies two days before it.
    alike = days().of_steps(at("2024-03-05"), torch.tensor([[2]]))
    assert alike is not None
    assert (2 + alike[0, 0, 0, 0].nonzero().flatten()).tolist() == [4, 5, 6, 7, 8]


def test_after_is_of_the_next_step() -> None:
    after = days().after(at("2024-03-02 12:00", "2024-03-03 12:00"))
    of_next = days().of_steps(at("2024-03-03", "2024-03-04"), 0)
    assert after is not None
    assert of_next is not None
    assert torch.equal(after, of_next)


def test_lags_of_no_whole_days_tell_no_days_apart() -> None:
    alike = days().of_steps(at("2024-03-04"), 0)
    assert alike is not None
    assert alike[0, 0, 0, 1].all()
    assert not days(lags=(3,)).is_on
    assert days(lags=(3,)).of_steps(at("2024-03-04"), 0) is None


def test_without_weekends_in_the_calendar_all_days_are_alike() -> None:
    assert days(("day",)).of_steps(at("2024-03-04"), 0) is None
    assert days(frequency="MS").of_steps(at("2024-03-04"), 0) is None


def test_other_days_count_where_none_alike_was_observed() -> None:
    periods = torch.tensor([[1.0, 2.0, 4.0], [1.0, torch.nan, torch.nan], [torch.nan] * 3], dtype=torch.float64)
    alike, reachable = torch.tensor([False, True, True]), torch.tensor(True)
    seasonal = look_up(periods, reachable, alike)
    assert seasonal.single.tolist() == [2.0, 1.0, 0.0]
    assert seasonal.mean.tolist() == [3.0, 1.0, 0.0]
    assert seasonal.known.tolist() == [True, True, False]
    assert look_up(periods, torch.tensor([True, False, True]), alike).single[0] == 4.0
