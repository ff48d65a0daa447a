"""Cut-offs, series and forecasts that are accepted or refused."""

from typing import Any

import numpy as np
import pytest

from statecast.model.evaluation import EvaluationError, Forecasts, Protocol, Truth


@pytest.mark.parametrize(
    ("protocol", "cutoffs"),
    [
        (Protocol(horizon=3, season=1), [17]),
        (Protocol(horizon=3, season=1, windows=3), [11, 14, 17]),
        (Protocol(horizon=3, season=1, windows=3, step=1), [15, 16, 17]),
        (Protocol(horizon=3, season=1, windows=2, first_cutoff=5), [5, 8]),
        (Protocol(horizon=3, season=1, windows=2, step=5, first_cutoff=-10), [10, 15]),
    ],
)
def test_cutoffs(protocol: Protocol, cutoffs: list[int]) -> None:
    assert protocol.cutoffs(20).tolist() == cutoffs


def test_cutoffs_at_a_share_or_a_time() -> None:
    share = Protocol(horizon=3, season=1, windows=2, begins=0.29)
    assert share.cutoffs(100).tolist() == [29, 32]
    assert share.cutoffs(10).tolist() == [2, 5]
    with pytest.raises(EvaluationError, match=r"7 steps are too few .* the first at 0\.29"):
        share.cutoffs(7)
    time = Protocol(horizon=3, season=1, windows=2, begins="2024-05-01")
    assert time.cutoffs(20, 7).tolist() == [7, 10]
    assert [time.fits(20, begin) for begin in (0, 1, 14, 15)] == [False, True, True, False]
    with pytest.raises(EvaluationError, match="2024-05-01 is a time, and the series has none"):
        time.cutoffs(20)


@pytest.mark.parametrize("first_cutoff", [None, 5, -8, -11])
def test_the_shortest_series_has_all_windows_and_one_step_before_them(first_cutoff: int | None) -> None:
    protocol = Protocol(horizon=2, season=1, windows=3, step=3, first_cutoff=first_cutoff)
    cutoffs = protocol.cutoffs(protocol.shortest)
    assert cutoffs[0] >= 1
    assert cutoffs[-1] + 2 <= protocol.shortest
    with pytest.raises(EvaluationError, match=f"at least {protocol.shortest}"):
        protocol.cutoffs(protocol.shortest - 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"horizon": 0}, "horizon: expected 1 or more, got 0"),
        ({"season": 0}, "season"),
        ({"windows": -1}, "windows"),
        ({"step": 0}, "step"),
        ({"first_cutoff": 0}, "first_cutoff"),
        ({"windows": 3, "first_cutoff": -5}, "windows end 6 steps after"),
        ({"begins": 1.0}, "first_cutoff: expected a share between 0 and 1, got 1"),
        ({"begins": 0.5, "first_cutoff": 3}, "first_cutoff: given as a number of steps and otherwise"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        Protocol(**({"horizon": 2, "season": 1} | arguments))


@pytest.mark.parametrize(
    ("windows", "second"), [(1, [False]), (2, [False, True]), (5, [False, False, False, True, True])]
)
def test_halves(windows: int, second: list[bool]) -> None:
    assert Protocol(1, 1, windows).in_second_half(range(windows)).tolist() == second


@pytest.mark.parametrize("cutoffs", [[], [0, 2], [2, 2], [3, 2], [2, 6]])
def test_cutoffs_outside_the_series_are_refused(cutoffs: list[int]) -> None:
    with pytest.raises(EvaluationError, match="pump flow: cut-offs must ascend from 1 or more to 5 or less"):
        Truth("pump", "flow", np.ones(5), np.array(cutoffs, dtype=np.int64))


def test_infinite_values_are_refused() -> None:
    with pytest.raises(EvaluationError, match="step 1 is infinite"):
        Truth("pump", "flow", np.array([1, np.inf, 3]), np.array([2]))


def forecasts(levels: tuple[float, ...] = (0.1, 0.5), windows: tuple[int, ...] = (0, 2), value: float = 1) -> Forecasts:
    return Forecasts("model", levels, (np.full((2, 3, 2), value), np.ones((2, 3, 2))), windows)


def test_forecasts_at_some_of_their_windows() -> None:
    chosen = forecasts().at([2])
    assert chosen.windows == (2,)
    assert chosen.quantiles[0].shape == (1, 3, 2)
    with pytest.raises(EvaluationError, match=r"no forecast at windows \[1\]"):
        forecasts().at([0, 1])


def test_forecasts_that_make_no_sense_are_refused() -> None:
    for levels in [(0.5, 0.1), (0.0, 0.5), (0.5, 1.0)]:
        with pytest.raises(EvaluationError, match="levels must ascend"):
            forecasts(levels=levels)
    for windows in [(2, 0), (-1, 0)]:
        with pytest.raises(EvaluationError, match="windows must ascend"):
            forecasts(windows=windows)
    with pytest.raises(EvaluationError, match=r"series 0: expected \(3, 3, 2\), got \(2, 3, 2\)"):
        forecasts(windows=(0, 1, 2))
    with pytest.raises(EvaluationError, match="series 0: a quantile is not finite"):
        forecasts(value=np.nan)
