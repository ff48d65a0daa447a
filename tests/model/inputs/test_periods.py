"""A session's periods: found in its window alone, and kept unless others are clearly better."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from statecast.model import Forecaster, ModelConfig
from statecast.model.inputs.periods import find_periods, is_due

WINDOW = 640
Values = NDArray[np.float64]


def found(values: Values, current: tuple[int, ...] = (0, 0, 0, 0)) -> list[int]:
    window = np.full(WINDOW, np.nan)
    window[WINDOW - len(values) :] = values
    return [period for period in find_periods(window[None], np.array([current]))[0].tolist() if period]


def season(period: int, steps: int = WINDOW, noise: float = 0.2, seed: int = 0) -> Values:
    rng = np.random.default_rng(seed)
    return np.resize(rng.normal(size=period), steps) + noise * rng.normal(size=steps)


@pytest.mark.parametrize("period", [3, 7, 23, 24, 84, 288, 365])
def test_any_period_is_found_wherever_the_series_lies(period: int) -> None:
    values = season(period)
    assert period in found(values)
    assert found(1e6 - 1e-3 * values) == found(values)


@pytest.mark.parametrize(("day", "kind"), [(24, "level"), (12, "level"), (4, "level"), (24, "drift")])
def test_a_day_and_its_week_are_found(day: int, kind: str) -> None:
    rng = np.random.default_rng(1)
    steps = np.arange(WINDOW)
    level = np.array([0.0, 0.2, 0.1, 0.3, 0.2, -1.5, -1.8])[steps // day % 7]
    if kind == "drift":
        level = level + 0.5 * np.interp(steps, steps[::day], rng.normal(size=len(steps[::day])).cumsum())
    values = 3 * np.sin(2 * np.pi * steps / day) + level + 0.1 * rng.normal(size=WINDOW)
    assert {day, 7 * day} <= set(found(values))


@pytest.mark.parametrize("kind", ["walk", "trend", "constant", "level of rounding errors", "few values", "nothing"])
def test_nothing_is_found_where_nothing_repeats(kind: str) -> None:
    rng = np.random.default_rng(2)
    values = {
        "walk": rng.normal(size=WINDOW).cumsum(),
        "trend": np.arange(WINDOW) / 7,
        "constant": np.full(WINDOW, 20.1),
        "level of rounding errors": 20.1 + 1e-12 * np.sin(np.arange(WINDOW)),
        "few values": season(3, 8),
        "nothing": np.full(WINDOW, np.nan),
    }[kind]
    assert found(values) == []


def test_gaps_and_wild_values_hide_no_period() -> None:
    values = season(24)
    values[np.random.default_rng(3).random(WINDOW) < 0.3] = np.nan
    values[[100, 300, 301]] = [1e7, -1e7, 1e9]
    assert 24 in found(values)


def test_a_current_period_stays_while_it_is_nearly_as_good() -> None:
    """Two periods that fit almost equally well take turns without memory, but not with it."""
    rng, changes = np.random.default_rng(4), {True: 0, False: 0}
    for remembers in (True, False):
        current = [0, 0, 0, 0]
        for _ in range(40):
            values = np.sin(2 * np.pi * np.arange(WINDOW) / 23.5) + 0.3 * rng.normal(size=WINDOW)
            now = found(values, tuple(current) if remembers else (0, 0, 0, 0))
            now = [0] * (4 - len(now)) + now
            changes[remembers] += now != current
            current = now
    assert changes[True] < changes[False]


def test_early_sessions_look_more_often() -> None:
    steps = np.arange(1, 400)
    assert steps[is_due(steps)].tolist() == [*range(16, 257, 16), 320, 384]
    assert not is_due(np.array([0]))[0]


def test_what_is_known_of_a_period_moves_with_it() -> None:
    """When a shorter period appears, the longer one keeps its errors in another slot."""
    config = ModelConfig(
        name="x", version="1", hidden_size=2, head_size=2, lags=(), periods=3, window=WINDOW, multiples=2
    )
    model = Forecaster(config).eval()
    values = torch.from_numpy(season(48, 639, 0.0)).view(1, -1, 1)
    before = model.advance(model.initial_state(1), values).state
    # Only the window knows that there is a shorter period, too.
    both = torch.from_numpy(season(48, WINDOW, 0.0) + 5 * season(6, WINDOW, 0.5, seed=9)).view(1, -1, 1)
    state = type(before)({**before, "window": torch.cat([before["window"][:, :1], both[:, :-1]], dim=1)}, model.layout)
    after = model.advance(state, both[:, -1:]).state
    old, new = (each["periods"][0, 0].tolist() for each in (before, after))
    assert 48 in old
    assert 48 in new
    assert 6 in set(new) - set(old)
    naive = model.naive
    groups = 2 * naive.means + torch.arange(2 + naive.carries) * naive.slots
    was, now, fresh = old.index(48), new.index(48), new.index(6)
    counts = [each["error_counts"][0, 0] for each in (before, after)]
    assert torch.equal(counts[1][groups + now], counts[0][groups + was] + 1)
    assert not counts[1][groups + fresh].any()
    assert not after["errors"][0, 0, groups + fresh].any()
    assert not after["carries"][0, 0, fresh].any()
    assert not counts[1][-2 + min(fresh, 1)]
