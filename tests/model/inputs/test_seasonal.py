"""Past periods: where they lie, those on similar days, and two periods together."""

import pandas as pd
import pytest
import torch
from torch import Tensor

from statecast.model import ModelConfig
from statecast.model.inputs.seasonal import DaysAlike, Places, look_up

HALF_DAYS = {"horizon": 4, "window": 16, "lags": (2, 3), "multiples": 7, "frequency": "12h"}


def alike(times: Tensor, ahead: int = 0, calendar: tuple[str, ...] = ("weekend",), **changes: object) -> Tensor | None:
    """Return whether the past periods of the steps at `times` lie on days alike, [N, S, D, K, multiples]."""
    config = ModelConfig("tiny", "1", calendar=calendar, **{**HALF_DAYS, **changes})  # type: ignore[arg-type]
    periods = torch.tensor([[[config.lags]]])
    places = Places.of(periods, torch.tensor(ahead), config.multiples, config.window)
    return DaysAlike(config).of_steps(times, periods, places.back)


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
    found = alike(at(text))
    assert found is not None
    assert (1 + found[0, 0, 0, 0].nonzero().flatten()).tolist() == back


def test_days_are_counted_from_the_step_that_is_forecast() -> None:
    # The latest past period of the third step ahead lies two days before it.
    found = alike(at("2024-03-05"), ahead=2)
    assert found is not None
    assert (2 + found[0, 0, 0, 0].nonzero().flatten()).tolist() == [4, 5, 6, 7, 8]


def test_periods_of_no_whole_days_tell_no_days_apart() -> None:
    found = alike(at("2024-03-04"))
    assert found is not None
    assert found[0, 0, 0, 1].all()
    assert alike(at("2024-03-04"), lags=(3,)) is None


def test_without_weekends_in_the_calendar_all_days_are_alike() -> None:
    assert alike(at("2024-03-04"), calendar=("day",)) is None
    assert alike(at("2024-03-04"), calendar=(), frequency="MS") is None


def places(periods: list[int], ahead: int = 0, multiples: int = 3, window: int = 24) -> Places:
    return Places.of(torch.tensor([[periods]]), torch.tensor(ahead), multiples, window)


def test_other_days_count_where_none_alike_was_observed() -> None:
    values = [[[1.0, 2.0, 4.0], [1.0, torch.nan, torch.nan], [torch.nan] * 3]]
    periods = torch.tensor(values, dtype=torch.float64).unsqueeze(0)
    where, none = places([1, 1, 1]), torch.full((1, 1, 2, 3), torch.nan, dtype=torch.float64)
    seasonal = look_up(where, periods, none, torch.tensor([False, True, True]))
    assert seasonal.single.flatten().tolist() == [2.0, 1.0, 0.0]
    assert seasonal.mean.flatten().tolist() == [3.0, 1.0, 0.0]
    assert seasonal.known.flatten().tolist() == [True, True, False]


def test_past_periods_lie_in_the_window() -> None:
    where = places([5, 12], ahead=7, window=20)
    assert where.back[0, 0].tolist() == [[10, 15, 20], [12, 24, 36]]
    # A value 27 steps before the eighth step ahead is the oldest of 20.
    assert where.reachable(where.back)[0, 0].tolist() == [[True, True, True], [True, True, False]]
    assert where.crossed[0, 0].tolist() == [[22, 34, 46]]


def test_two_periods_together_repeat_a_week_and_the_last_day() -> None:
    """A series of weeks of 3 days, with a deviation since the last day, is forecast exactly."""
    day, week = 4, 12
    shape = torch.arange(week, dtype=torch.float64) ** 2
    values = shape.repeat(4)
    values[-day:] += 10
    ahead = torch.arange(day)
    where = Places.of(torch.tensor([[day, week]]), ahead.view(-1, 1, 1), 3, len(values))
    read = [values[len(values) + where.ahead - back] for back in (where.back, where.crossed)]
    seasonal = look_up(where, read[0], read[1], None)
    assert seasonal.crossed_known.all()
    assert seasonal.crossed.flatten().tolist() == pytest.approx((shape[:day] + 10).tolist())


def test_without_the_longer_period_there_is_nothing_to_deviate_from() -> None:
    periods = torch.tensor([[[[5.0], [torch.nan]]]], dtype=torch.float64)
    none = torch.full((1, 1, 1, 1), torch.nan, dtype=torch.float64)
    seasonal = look_up(places([2, 4], multiples=1), periods, none, None)
    assert not seasonal.crossed_known.any()
    assert not look_up(places([0, 0], multiples=1), periods.nan_to_num(), none.nan_to_num(), None).known.any()
