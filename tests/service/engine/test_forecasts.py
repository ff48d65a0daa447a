"""Which forecasts are computed at once."""

from typing import Any

from statecast.service.engine.forecasts import STEPS_AT_ONCE, Wanted, _parts
from statecast.service.engine.request import Request


def wanted(horizon: int) -> Wanted:
    standing: Any = None
    return Wanted(0, 0, 0, Request("a", horizon=horizon), standing, None)


def test_a_long_forecast_is_computed_apart_from_short_ones() -> None:
    found = [[each.horizon for each in part] for part in _parts([wanted(each) for each in (1, 1000, 24, 65, 64, 100)])]
    assert found == [[1, 24, 64], [1000], [65, 100]]


def test_few_long_forecasts_are_computed_at_once() -> None:
    parts = list(_parts([wanted(1000)] * 70))
    assert sum(map(len, parts)) == 70
    assert all(len(part) * 1000 <= STEPS_AT_ONCE for part in parts)
