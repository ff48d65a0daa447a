"""Forecasts of the baselines, which may use the past only."""

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray
from statsforecast.models import AutoETS, Naive, SeasonalNaive

from statecast.model.evaluation import (
    EvaluationError,
    Forecasts,
    Protocol,
    Truth,
    auto_ets,
    baselines,
    last_value,
    seasonal_naive,
)

NAN = float("nan")
LEVELS = (0.1, 0.5, 0.9)
Baseline = Callable[[Sequence[Truth], Protocol, Sequence[float]], Forecasts]


def weekly(length: int = 80) -> NDArray[np.float64]:
    steps = np.arange(length)
    return 20 + 5 * np.sin(steps / 7 * 2 * np.pi) + np.random.default_rng(2).normal(size=length)


def said(baseline: Baseline, values: Sequence[float] | NDArray[np.float64], protocol: Protocol) -> Forecasts:
    array = np.asarray(values, dtype=np.float64)
    return baseline([Truth("s", "y", array, protocol.cutoffs(len(array)))], protocol, LEVELS)


def medians(forecasts: Forecasts) -> list[list[float]]:
    return [[float(value) for value in window] for window in forecasts.quantiles[0][..., 1]]


def test_seasonal_naive_repeats_the_last_season() -> None:
    protocol = Protocol(horizon=5, season=2, windows=2, step=1)
    assert medians(said(seasonal_naive, np.arange(10.0), protocol)) == [[2, 3, 2, 3, 2], [3, 4, 3, 4, 3]]


def test_last_value_repeats_it() -> None:
    assert medians(said(last_value, np.arange(10.0), Protocol(3, 2))) == [[6, 6, 6]]


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([1, 2, 3, 4, NAN, 6], [3, 6, 3]),
        ([1, 2, NAN, 4, NAN, 6], [1, 6, 1]),
        ([NAN, 2, NAN, 4, NAN, 6], [6, 6, 6]),
        ([NAN, 2, NAN, 4, NAN, NAN], [4, 4, 4]),
        ([NAN], [0, 0, 0]),
        ([7], [7, 7, 7]),
    ],
)
def test_where_the_last_season_is_missing_it_looks_further_back(past: list[float], expected: list[float]) -> None:
    forecasts = said(seasonal_naive, [*past, 0, 0, 0], Protocol(horizon=3, season=2))
    assert medians(forecasts) == [expected]


@pytest.mark.parametrize(("past", "expected"), [([1, 2, NAN], 2), ([NAN, NAN], 0), ([1, NAN, NAN, NAN], 1)])
def test_last_value_is_the_last_one_observed(past: list[float], expected: float) -> None:
    assert medians(said(last_value, [*past, 9], Protocol(horizon=1, season=2))) == [[expected]]


@pytest.mark.parametrize(("baseline", "theirs"), [(seasonal_naive, SeasonalNaive(7)), (last_value, Naive())])
def test_quantiles_are_those_of_statsforecast(baseline: Baseline, theirs: SeasonalNaive | Naive) -> None:
    values, protocol = weekly(), Protocol(horizon=20, season=7)
    ours = said(baseline, values, protocol).quantiles[0][0]
    expected = theirs.forecast(y=values[:60], h=20, level=[80])
    for position, column in enumerate(["lo-80", "mean", "hi-80"]):
        assert ours[:, position] == pytest.approx(expected[column])


def test_looking_further_back_widens_the_band() -> None:
    values = weekly()
    whole = said(seasonal_naive, values, Protocol(horizon=7, season=7)).quantiles[0][0]
    values[72] = NAN
    holed = said(seasonal_naive, values, Protocol(horizon=7, season=7)).quantiles[0][0]
    values[72] = weekly()[72]
    width, wider = whole[6, 2] - whole[6, 0], holed[6, 2] - holed[6, 0]
    assert wider == pytest.approx(np.sqrt(2) * width, rel=0.05)
    assert np.diff(whole[:, 2] - whole[:, 0]) == pytest.approx(0)


def test_the_spread_is_of_the_last_steps() -> None:
    """After a hundred noisy steps and as many calm ones, only a long context includes the noise."""
    values = np.concatenate([weekly(100) * 50, np.tile(np.arange(7.0), 15)])
    truths, protocol = [Truth("s", "y", values, np.array([198]))], Protocol(horizon=7, season=7)
    calm = seasonal_naive(truths, protocol, LEVELS, context_steps=80).quantiles[0]
    wild = seasonal_naive(truths, protocol, LEVELS, context_steps=1000).quantiles[0]
    assert np.ptp(calm, axis=-1) == pytest.approx(0)
    assert (np.ptp(wild, axis=-1) > 10).all()


@pytest.mark.parametrize("baseline", [seasonal_naive, last_value, auto_ets])
def test_a_baseline_does_not_look_beyond_its_cutoff(baseline: Baseline) -> None:
    values, protocol = weekly(), Protocol(horizon=8, season=7, windows=2)
    honest = said(baseline, values, protocol).quantiles[0]
    for window, cutoff in enumerate(protocol.cutoffs(len(values))):
        for garbage in (1e9, NAN):
            spoilt = np.where(np.arange(len(values)) < cutoff, values, garbage)
            assert said(baseline, spoilt, protocol).quantiles[0][window].tolist() == honest[window].tolist()


def test_auto_ets_is_that_of_statsforecast() -> None:
    values, protocol = weekly(), Protocol(horizon=6, season=7, windows=3)
    told: list[tuple[int, int]] = []
    truths = [Truth("s", "y", values, protocol.cutoffs(80))]
    forecasts = auto_ets(
        truths, protocol, LEVELS, windows=[2, 0], context_steps=50, progress=lambda *each: told.append(each)
    )
    assert forecasts.windows == (0, 2)
    assert told == [(1, 2), (2, 2)]
    expected = AutoETS(season_length=7).forecast(y=values[24:74], h=6, level=[80])
    for position, column in enumerate(["lo-80", "mean", "hi-80"]):
        assert forecasts.quantiles[0][1][:, position] == pytest.approx(expected[column])


@pytest.mark.parametrize("past", [[1.0, 2.0], [NAN, NAN, NAN]])
def test_seasonal_naive_stands_in_where_auto_ets_cannot_be_fitted(past: list[float]) -> None:
    protocol, values = Protocol(horizon=2, season=7), [*past, 5, 5]
    ets, naive = said(auto_ets, values, protocol), said(seasonal_naive, values, protocol)
    assert ets.quantiles[0] == pytest.approx(naive.quantiles[0], abs=1e-3)


def test_auto_ets_takes_what_is_missing_and_what_is_flat() -> None:
    protocol, values = Protocol(horizon=4, season=7), weekly()
    values[[0, 1, 40, 75]] = NAN
    for each in (values, np.full(80, 3.0)):
        quantiles = said(auto_ets, each, protocol).quantiles[0]
        assert np.isfinite(quantiles).all()
        assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_without_the_extra_auto_ets_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "has_auto_ets", lambda: False)
    with pytest.raises(EvaluationError, match="the extra 'bench'"):
        said(auto_ets, weekly(), Protocol(horizon=4, season=7))


def test_there_is_no_such_window() -> None:
    protocol = Protocol(horizon=4, season=7)
    with pytest.raises(EvaluationError, match=r"no forecast at windows \[3\]"):
        auto_ets([Truth("s", "y", weekly(), protocol.cutoffs(80))], protocol, LEVELS, windows=[3])


def test_levels_are_those_of_a_normal() -> None:
    values, protocol = weekly(), Protocol(horizon=1, season=7)
    low, middle, high = said(seasonal_naive, values, protocol).quantiles[0][0, 0]
    sigma = np.sqrt(np.mean((values[7:79] - values[:72]) ** 2))
    assert middle == values[72]
    assert (high - middle, middle - low) == pytest.approx((sigma * NormalDist().inv_cdf(0.9),) * 2)
