"""The calendar, covariates and categories that a model sees."""

from math import pi

import pandas as pd
import pytest
import torch
from torch import Tensor

from statecast.model import ModelConfig
from statecast.model.config import Category
from statecast.model.inputs.known_inputs import DAY_HARMONICS, KnownInputs


def known(**changes: object) -> KnownInputs:
    values: dict[str, object] = {"name": "m", "version": "1", "frequency": "h", **changes}
    return KnownInputs(ModelConfig(**values))  # type: ignore[arg-type]


def at(*texts: str) -> Tensor:
    return torch.tensor([pd.Timestamp(text).value for text in texts])


def of(inputs: KnownInputs, times: Tensor) -> Tensor:
    return inputs.of_steps(times, None, times.shape)


@pytest.mark.parametrize(
    ("text", "hour"),
    [("2024-03-01 00:00", 0), ("2024-03-01 06:00", 6), ("1969-12-31 18:00", 18), ("1901-05-05 13:30", 13.5)],
)
def test_the_hour_of_the_day(text: str, hour: float) -> None:
    features = of(known(calendar=("day",)), at(text))[0]
    angles = torch.arange(1, DAY_HARMONICS + 1) * (2 * pi * hour / 24)
    torch.testing.assert_close(features, torch.cat([angles.sin(), angles.cos()]).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "text", ["1970-01-01", "2024-02-29 23:59", "1969-12-31 23:00", "1968-02-29", "1750-07-04 12:00"]
)
def test_the_day_of_the_week(text: str) -> None:
    features = of(known(calendar=("week",)), at(text))[0]
    assert features.tolist() == [float(day == pd.Timestamp(text).weekday()) for day in range(7)]


@pytest.mark.parametrize(
    ("text", "weekend"),
    [
        ("2024-03-01 23:59", [0, 0]),
        ("2024-03-02", [1, 0]),
        ("2024-03-03 12:00", [1, 1]),
        ("2024-03-04", [0, 1]),
        ("1969-12-27", [1, 0]),
    ],
)
def test_the_weekend_and_the_day_after_it(text: str, weekend: list[int]) -> None:
    assert of(known(calendar=("weekend",)), at(text))[0].tolist() == weekend


@pytest.mark.parametrize("year", [1931, 1969, 1970, 2000, 2023])
def test_the_phase_of_the_year(year: int) -> None:
    inputs = known(calendar=("year",))
    april, again = of(inputs, at(f"{year}-04-02 06:00", f"{year + 1}-04-02 12:00"))
    # The sine peaks after a quarter of the year; leap years shift that by a day at most.
    assert april[0] == pytest.approx(1, abs=1e-3)
    assert april[2] == pytest.approx(0, abs=0.03)
    torch.testing.assert_close(april, again, atol=0.05, rtol=0)


def test_all_cycles_stand_side_by_side() -> None:
    inputs = known(calendar=("day", "weekend", "week", "year"), covariates=("price",))
    times = at("2024-01-01 05:00", "2024-01-02 05:00").view(1, 2)
    assert of(inputs, times).shape == (1, 2, inputs.size)


@pytest.mark.parametrize(
    ("frequency", "start", "steps", "later"),
    [
        ("h", "2024-02-28 23:00", 25, "2024-03-01 00:00"),
        ("MS", "2023-11-01", 4, "2024-03-01"),
        ("MS", "1969-11-01", 3, "1970-02-01"),
        ("B", "2024-03-01", 1, "2024-03-04"),
        ("B", "2024-03-01", 11, "2024-03-18"),
    ],
)
def test_later_follows_the_frequency(frequency: str, start: str, steps: int, later: str) -> None:
    times = at(start, start).view(2, 1)
    assert torch.equal(known(frequency=frequency).later(times, steps), at(later, later).view(2, 1))


def test_later_of_nothing_is_nothing() -> None:
    assert known(frequency="MS").later(torch.empty(0, dtype=torch.int64), 3).shape == (0,)


def test_a_covariate_is_scaled_and_says_whether_it_is_known() -> None:
    inputs = known(covariates=("price", "load"))
    inputs.centres.copy_(torch.tensor([10.0, 0.0]))
    inputs.scales.copy_(torch.tensor([2.0, 1.0]))
    values = torch.tensor([[12.0, torch.nan], [10.0, 0.0]], dtype=torch.float64)
    got = inputs.of_steps(None, values, torch.Size((2,)))
    one = torch.asinh(torch.tensor(1.0)).item()
    torch.testing.assert_close(got, torch.tensor([[one, 0, 1, 0], [0, 0, 1, 1]], dtype=torch.float32))
    assert torch.equal(inputs.of_steps(None, None, torch.Size((3,))), torch.zeros(3, 4))


def test_a_category_that_is_not_known_is_one_of_its_own() -> None:
    region = Category("region", ("north", "south"))
    assert [region.index(value) for value in ("south", "north", "west", "")] == [2, 1, 0, 0]
    inputs = known(categories=(region, Category("kind", ("a",))))
    rows = inputs.of_sessions(torch.tensor([[0, 0], [1, 0], [2, 1]]))
    assert rows.shape == (3, inputs.static_size)
    assert len({tuple(row.tolist()) for row in rows}) == 3
